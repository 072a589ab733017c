//! Subjects and filters: the one name space of publish and subscribe, whatever protocol spelt it.
//! Text in, text out; this file must never decide where a message goes.
//!
//! A subject is a list of levels. It is kept in MQTT spelling (`a/b`), as one run of bytes. AMQP
//! splits on the dot instead (`a.b`), so `/` and `.` trade places when a subject crosses:
//!
//! ```text
//! MQTT   sensors/spBv1.0/x      levels  sensors | spBv1.0 | x
//! AMQP   sensors.spBv1/0.x      the same bytes with every '/' and '.' swapped
//! ```
//!
//! Swapping twice gives the same bytes back, so no subject is lost or merged with another one.

use bytes::Bytes;
use std::fmt;

/// Levels of one subject or filter. A routing key of AMQP 0-9-1 has at most 255 bytes, hence at most
/// 256 levels: no legal key is refused. MQTT topics may be longer but are not deeper in practice
/// (mosquitto stops at 200).
pub const LEVELS_MAX: usize = 256;

/// Bytes of one subject or filter: what the two-byte length of an MQTT string can say (MQTT 5 §1.5.4).
pub const SUBJECT_BYTES_MAX: usize = 65_535;

/// `#` words in one AMQP filter. Each can stay alive through every level of a subject, so a match
/// visits at most `2 * HASHES_MAX + 1` states per filter and level.
pub const HASHES_MAX: usize = 8;

/// Why bytes are not a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectError {
    /// MQTT only: a topic name has at least one character (MQTT 5 §4.7.3).
    Empty,
    /// Over [`SUBJECT_BYTES_MAX`].
    TooLong,
    /// Over [`LEVELS_MAX`].
    TooManyLevels,
    /// MQTT only: `+` or `#` in a topic name (MQTT 5 §3.3.2.1).
    Wildcard,
    /// MQTT only: the null character (MQTT 5 §1.5.4).
    Nul,
}

/// Why bytes are not a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// MQTT only: a topic filter has at least one character (MQTT 5 §4.7.3).
    Empty,
    /// Over [`SUBJECT_BYTES_MAX`].
    TooLong,
    /// Over [`LEVELS_MAX`].
    TooManyLevels,
    /// MQTT only: the null character (MQTT 5 §1.5.4).
    Nul,
    /// MQTT only: a wildcard that shares its level, or `#` before the last level (MQTT 5 §4.7.1).
    MisplacedWildcard,
    /// AMQP only: over [`HASHES_MAX`].
    TooManyHashes,
}

impl fmt::Display for SubjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubjectError::Empty => f.write_str("the topic name is empty"),
            SubjectError::TooLong => write!(f, "the subject is over {SUBJECT_BYTES_MAX} bytes"),
            SubjectError::TooManyLevels => write!(f, "the subject is over {LEVELS_MAX} levels"),
            SubjectError::Wildcard => f.write_str("the topic name holds a wildcard"),
            SubjectError::Nul => f.write_str("the topic name holds a null character"),
        }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FilterError::Empty => f.write_str("the topic filter is empty"),
            FilterError::TooLong => write!(f, "the filter is over {SUBJECT_BYTES_MAX} bytes"),
            FilterError::TooManyLevels => write!(f, "the filter is over {LEVELS_MAX} levels"),
            FilterError::Nul => f.write_str("the topic filter holds a null character"),
            FilterError::MisplacedWildcard => f.write_str("a wildcard stands where none may"),
            FilterError::TooManyHashes => write!(f, "the filter holds over {HASHES_MAX} '#'"),
        }
    }
}

impl std::error::Error for SubjectError {}
impl std::error::Error for FilterError {}

/// What a message is published under. Owns its bytes: it never pins a network buffer. A clone
/// shares them. Ordered by its canonical bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    text: Bytes,
}

impl Subject {
    /// An MQTT topic name (MQTT 5 §4.7). Case, spaces and empty levels count.
    pub fn from_mqtt(topic_name: &str) -> Result<Subject, SubjectError> {
        if topic_name.is_empty() {
            return Err(SubjectError::Empty);
        }
        for byte in topic_name.bytes() {
            match byte {
                b'+' | b'#' => return Err(SubjectError::Wildcard),
                0 => return Err(SubjectError::Nul),
                _ => {}
            }
        }
        Self::from_canonical(topic_name.as_bytes())
    }

    /// An AMQP routing key, or any dotted name. Any bytes will do; the empty key has no level.
    pub fn from_amqp(routing_key: &[u8]) -> Result<Subject, SubjectError> {
        check_size(routing_key, b'.').map_err(Size::subject_error)?;
        Ok(Subject { text: Bytes::from(swapped(routing_key)) })
    }

    /// The dotted name of a Kafka, Pulsar or JMS topic: spelt as AMQP does.
    pub fn from_topic_name(name: &str) -> Result<Subject, SubjectError> {
        Self::from_amqp(name.as_bytes())
    }

    /// Bytes that [`Self::canonical`] gave.
    pub fn from_canonical(text: &[u8]) -> Result<Subject, SubjectError> {
        check_size(text, b'/').map_err(Size::subject_error)?;
        Ok(Subject { text: Bytes::copy_from_slice(text) })
    }

    /// The levels in MQTT spelling, joined by `/`.
    pub fn canonical(&self) -> &[u8] {
        &self.text
    }

    pub fn levels(&self) -> impl Iterator<Item = &[u8]> {
        levels_of(&self.text)
    }

    /// The topic name that an MQTT client is shown; `None` for the empty subject and for one that
    /// is too long, which no MQTT packet can carry. Bytes that a topic name may not hold (`+`,
    /// `#`, NUL, what is not UTF-8) come out as `%` and two hex digits: the subscriber gets the
    /// message under a name near to the right one instead of losing it. Only this escape is not
    /// reversible; a subject that came from MQTT is never escaped.
    pub fn to_mqtt(&self) -> Option<String> {
        if self.text.is_empty() {
            return None;
        }
        let mut name = String::with_capacity(self.text.len());
        for chunk in self.text.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '+' => name.push_str("%2B"),
                    '#' => name.push_str("%23"),
                    '\0' => name.push_str("%00"),
                    other => name.push(other),
                }
            }
            for byte in chunk.invalid() {
                name.push_str(&format!("%{byte:02X}"));
            }
        }
        (name.len() <= SUBJECT_BYTES_MAX).then_some(name)
    }

    /// The routing key that an AMQP client is shown. It may be over the 255 bytes of a short
    /// string; the session decides what to do then.
    pub fn to_amqp(&self) -> Vec<u8> {
        swapped(&self.text)
    }

    /// The dotted name under which Kafka, Pulsar and JMS would know a topic for this subject;
    /// `None` if it is not text. Whether they allow such a name is for them to say.
    pub fn to_topic_name(&self) -> Option<String> {
        String::from_utf8(self.to_amqp()).ok()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({})", self.text.escape_ascii())
    }
}

/// Whose wildcards a filter uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FilterStyle {
    /// `+` one level, `#` the rest. Neither reaches a subject that starts with `$` from the first
    /// level (MQTT 5 §4.7.2), nor the empty subject, which MQTT cannot carry.
    Mqtt,
    /// `*` one word, `#` any number of words, anywhere.
    Amqp,
}

/// One level of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterLevel<'a> {
    Exact(&'a [u8]),
    /// Exactly one level, whatever it says.
    One,
    /// Zero or more levels.
    Many,
}

/// What a subscription or a topic binding asks for. Equal if style and spelling are.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Filter {
    style: FilterStyle,
    /// Levels joined by `/`; wildcards as the style writes them.
    text: Bytes,
}

impl Filter {
    /// An MQTT topic filter. `$share/group/` is not known here: the session takes it off first.
    pub fn from_mqtt(topic_filter: &str) -> Result<Filter, FilterError> {
        if topic_filter.is_empty() {
            return Err(FilterError::Empty);
        }
        let text = topic_filter.as_bytes();
        check_size(text, b'/').map_err(Size::filter_error)?;
        if text.contains(&0) {
            return Err(FilterError::Nul);
        }
        let mut hash_seen = false;
        for level in levels_of(text) {
            let wild = level.contains(&b'+') || level.contains(&b'#');
            if hash_seen || (wild && level.len() > 1) {
                return Err(FilterError::MisplacedWildcard);
            }
            hash_seen = level == b"#";
        }
        Ok(Filter { style: FilterStyle::Mqtt, text: Bytes::copy_from_slice(text) })
    }

    /// The binding key of a topic exchange. The empty key matches only the empty routing key.
    pub fn from_amqp(binding_key: &[u8]) -> Result<Filter, FilterError> {
        check_size(binding_key, b'.').map_err(Size::filter_error)?;
        let text = swapped(binding_key);
        if levels_of(&text).filter(|level| *level == b"#").count() > HASHES_MAX {
            return Err(FilterError::TooManyHashes);
        }
        Ok(Filter { style: FilterStyle::Amqp, text: Bytes::from(text) })
    }

    /// The filter that matches `subject` and nothing else.
    pub fn exactly(subject: &Subject) -> Option<Filter> {
        let filter = Filter { style: FilterStyle::Mqtt, text: subject.text.clone() };
        let literal = filter.levels().all(|level| matches!(level, FilterLevel::Exact(_)));
        literal.then_some(filter)
    }

    pub fn style(&self) -> FilterStyle {
        self.style
    }

    pub fn levels(&self) -> impl Iterator<Item = FilterLevel<'_>> {
        let one: &[u8] = match self.style {
            FilterStyle::Mqtt => b"+",
            FilterStyle::Amqp => b"*",
        };
        levels_of(&self.text).map(move |level| match level {
            b"#" => FilterLevel::Many,
            other if other == one => FilterLevel::One,
            other => FilterLevel::Exact(other),
        })
    }

    /// True if the rule for `$` (see [`FilterStyle::Mqtt`]) can keep a subject from this filter.
    pub fn starts_with_mqtt_wildcard(&self) -> bool {
        self.style == FilterStyle::Mqtt
            && !matches!(self.levels().next(), Some(FilterLevel::Exact(_)))
    }

    /// The filter as an MQTT client would write it; `None` if MQTT has no such filter.
    pub fn to_mqtt(&self) -> Option<String> {
        let mut text = Vec::with_capacity(self.text.len());
        for (index, level) in self.levels().enumerate() {
            if index > 0 {
                text.push(b'/');
            }
            match level {
                FilterLevel::Exact(level) if level.iter().any(|b| b"+#".contains(b)) => {
                    return None
                }
                FilterLevel::Exact(level) => text.extend_from_slice(level),
                FilterLevel::One => text.push(b'+'),
                FilterLevel::Many => text.push(b'#'),
            }
        }
        let text = String::from_utf8(text).ok()?;
        Filter::from_mqtt(&text).is_ok().then_some(text)
    }

    /// The filter as an AMQP binding key; `None` if AMQP would read a level as a wildcard. The
    /// rule for `$` is lost: AMQP does not know it.
    pub fn to_amqp(&self) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(self.text.len());
        for (index, level) in self.levels().enumerate() {
            if index > 0 {
                text.push(b'/');
            }
            match level {
                FilterLevel::Exact(b"*" | b"#") => return None,
                FilterLevel::Exact(level) => text.extend_from_slice(level),
                FilterLevel::One => text.push(b'*'),
                FilterLevel::Many => text.push(b'#'),
            }
        }
        swap_separators(&mut text);
        Some(text)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({:?} {})", self.style, self.text.escape_ascii())
    }
}

enum Size {
    TooLong,
    TooManyLevels,
}

impl Size {
    fn subject_error(self) -> SubjectError {
        match self {
            Size::TooLong => SubjectError::TooLong,
            Size::TooManyLevels => SubjectError::TooManyLevels,
        }
    }

    fn filter_error(self) -> FilterError {
        match self {
            Size::TooLong => FilterError::TooLong,
            Size::TooManyLevels => FilterError::TooManyLevels,
        }
    }
}

fn check_size(text: &[u8], separator: u8) -> Result<(), Size> {
    if text.len() > SUBJECT_BYTES_MAX {
        return Err(Size::TooLong);
    }
    // Text shorter than the limit cannot hold that many separators: the common case counts nothing.
    if text.len() >= LEVELS_MAX && text.iter().filter(|b| **b == separator).count() >= LEVELS_MAX {
        return Err(Size::TooManyLevels);
    }
    Ok(())
}

/// True if canonical `text` is within the limits of a subject.
pub(super) fn fits(text: &[u8]) -> bool {
    check_size(text, b'/').is_ok()
}

/// Levels of canonical text. Empty text has none; a separator always has a level on both sides.
pub(crate) fn levels_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let limit = if text.is_empty() { 0 } else { usize::MAX };
    text.split(|b| *b == b'/').take(limit)
}

/// From MQTT spelling to AMQP spelling or back: both are the same exchange of two characters.
pub(super) fn swap_separators(text: &mut [u8]) {
    for byte in text {
        *byte = match *byte {
            b'/' => b'.',
            b'.' => b'/',
            other => other,
        };
    }
}

fn swapped(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    swap_separators(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossing_swaps_the_separators_and_loses_nothing() {
        for (mqtt, amqp) in [
            ("a/b", "a.b"),
            ("a", "a"),
            ("spBv1.0/g/NDATA", "spBv1/0.g.NDATA"),
            ("/", "."),
            ("/a/", ".a."),
            ("$SYS/broker/load", "$SYS.broker.load"),
            ("a.b/c", "a/b.c"),
        ] {
            let subject = Subject::from_mqtt(mqtt).unwrap();
            assert_eq!(subject.to_amqp(), amqp.as_bytes(), "{mqtt}");
            assert_eq!(subject.to_topic_name().as_deref(), Some(amqp));
            let back = Subject::from_amqp(amqp.as_bytes()).unwrap();
            assert_eq!(back, subject, "{amqp}");
            assert_eq!(back.to_mqtt().as_deref(), Some(mqtt));
            assert_eq!(Subject::from_canonical(subject.canonical()), Ok(subject));
        }
    }

    #[test]
    fn levels_are_counted_as_each_protocol_does() {
        let levels = |key: &str| Subject::from_amqp(key.as_bytes()).unwrap().levels().count();
        assert_eq!(levels(""), 0);
        assert_eq!(levels("a"), 1);
        assert_eq!(levels("."), 2);
        assert_eq!(levels("a..b"), 3);
        assert_eq!(levels(&".".repeat(255)), LEVELS_MAX);
        let deep = "/".repeat(LEVELS_MAX);
        assert_eq!(Subject::from_mqtt(&deep), Err(SubjectError::TooManyLevels));
        let long = "x".repeat(SUBJECT_BYTES_MAX + 1);
        assert_eq!(Subject::from_mqtt(&long), Err(SubjectError::TooLong));
    }

    #[test]
    fn what_mqtt_cannot_carry_is_escaped_or_withheld() {
        let shown = |key: &[u8]| Subject::from_amqp(key).unwrap().to_mqtt();
        assert_eq!(shown(b""), None);
        assert_eq!(shown(b"a.+#\0"), Some("a/%2B%23%00".to_owned()));
        assert_eq!(shown(b"\xff.\xc3\xa9"), Some("%FF/\u{e9}".to_owned()));
        assert_eq!(shown(&vec![b'+'; 60_000]), None);
        assert_eq!(Subject::from_amqp(b"\xff").unwrap().to_topic_name(), None);
    }

    #[test]
    fn malformed_names_and_filters_say_why() {
        assert_eq!(Subject::from_mqtt(""), Err(SubjectError::Empty));
        assert_eq!(Subject::from_mqtt("a/+"), Err(SubjectError::Wildcard));
        assert_eq!(Subject::from_mqtt("a#"), Err(SubjectError::Wildcard));
        assert_eq!(Subject::from_mqtt("a\0"), Err(SubjectError::Nul));
        for (filter, error) in [
            ("", FilterError::Empty),
            ("a\0", FilterError::Nul),
            ("sport+", FilterError::MisplacedWildcard),
            ("sport/tennis#", FilterError::MisplacedWildcard),
            ("sport/#/ranking", FilterError::MisplacedWildcard),
            ("#/", FilterError::MisplacedWildcard),
            ("a/++", FilterError::MisplacedWildcard),
        ] {
            assert_eq!(Filter::from_mqtt(filter), Err(error), "{filter:?}");
        }
        assert_eq!(Filter::from_mqtt(&"/".repeat(LEVELS_MAX)), Err(FilterError::TooManyLevels));
        assert_eq!(Filter::from_amqp(&[b'x'; 65_536]), Err(FilterError::TooLong));
        let hashes = |count: usize| Filter::from_amqp(vec!["#"; count].join(".").as_bytes());
        assert!(hashes(HASHES_MAX).is_ok());
        assert_eq!(hashes(HASHES_MAX + 1), Err(FilterError::TooManyHashes));
    }

    #[test]
    fn filters_cross_where_the_other_side_can_say_them() {
        for (amqp, mqtt) in [
            ("a.*", Some("a/+")),
            ("a.#", Some("a/#")),
            ("#", Some("#")),
            ("#.a", None),
            ("a.+", None),
            ("a.b/c", Some("a/b.c")),
            ("a*", Some("a*")),
            ("", None),
        ] {
            let filter = Filter::from_amqp(amqp.as_bytes()).unwrap();
            assert_eq!(filter.to_mqtt().as_deref(), mqtt, "{amqp}");
            assert_eq!(filter.to_amqp().as_deref(), Some(amqp.as_bytes()));
        }
        let amqp = |mqtt: &str| Filter::from_mqtt(mqtt).unwrap().to_amqp();
        assert_eq!(amqp("+/x/#"), Some(b"*.x.#".to_vec()));
        assert_eq!(amqp("a/*"), None);
    }
}
