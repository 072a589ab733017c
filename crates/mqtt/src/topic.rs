//! The rules for topic names and topic filters (MQTT 5 §4.7), and the `$share` form (§4.8.2).
//! Knows nothing of matching: that is the router's.

use crate::error::Violation;

/// Levels of one topic name or filter. Bounds the depth of the topic tree a peer can make us build;
/// mosquitto's limit is 200, ours that of every subject (`Limits::subject_levels_max`).
pub const TOPIC_LEVELS_MAX: usize = 128;

const SHARE_PREFIX: &str = "$share/";

/// A topic name: no wildcard, at least one character.
pub fn check_topic_name(topic: &str) -> Result<(), Violation> {
    let mut separators = 0;
    for byte in topic.bytes() {
        match byte {
            b'+' | b'#' => return Err(Violation::TopicName),
            b'/' => separators += 1,
            _ => {}
        }
    }
    if topic.is_empty() || separators >= TOPIC_LEVELS_MAX {
        return Err(Violation::TopicName);
    }
    Ok(())
}

/// A subscription's filter, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicFilter<'a> {
    /// The `ShareName` of `$share/{ShareName}/{filter}`.
    pub share: Option<&'a str>,
    /// What to match, without the share prefix.
    pub filter: &'a str,
}

impl<'a> TopicFilter<'a> {
    pub fn parse(text: &'a str) -> Result<TopicFilter<'a>, Violation> {
        let Some(shared) = text.strip_prefix(SHARE_PREFIX) else {
            check_filter(text)?;
            return Ok(TopicFilter { share: None, filter: text });
        };
        let (share, filter) = shared.split_once('/').ok_or(Violation::TopicFilter)?;
        if share.is_empty() || share.contains(['+', '#']) {
            return Err(Violation::TopicFilter);
        }
        check_filter(filter)?;
        Ok(TopicFilter { share: Some(share), filter })
    }

    pub fn has_wildcard(&self) -> bool {
        self.filter.contains(['+', '#'])
    }

    /// Whether this topic name is one of those it asks for (§4.7.1, §4.7.2).
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.filter.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in self.filter.split('/') {
            if wanted == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

/// `#` stands alone in the last level, `+` stands alone in any.
fn check_filter(filter: &str) -> Result<(), Violation> {
    if filter.is_empty() {
        return Err(Violation::TopicFilter);
    }
    let mut levels = filter.split('/');
    let mut level_count = 0;
    while let Some(level) = levels.next() {
        level_count += 1;
        let last_only = level == "#" && levels.clone().next().is_some();
        let mixed = level.len() > 1 && level.contains(['+', '#']);
        if last_only || mixed || level_count > TOPIC_LEVELS_MAX {
            return Err(Violation::TopicFilter);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_that_of_subjects() {
        let limits = koine_broker::limits::Limits::default();
        assert_eq!(TOPIC_LEVELS_MAX, limits.subject_levels_max);
    }

    #[test]
    fn names() {
        for good in ["a", "/", "a/b", "a//b", "/a", "a b", "$SYS/x", "ä/日本"] {
            assert_eq!(check_topic_name(good), Ok(()), "{good}");
        }
        let deep = "a/".repeat(TOPIC_LEVELS_MAX - 1);
        assert_eq!(check_topic_name(&deep), Ok(()));
        for bad in ["", "+", "a/#", "a/b+"] {
            assert_eq!(check_topic_name(bad), Err(Violation::TopicName), "{bad}");
        }
        assert!(check_topic_name(&(deep + "/")).is_err());
    }

    #[test]
    fn filters() {
        fn check(text: &str, expect: Option<(Option<&str>, &str)>) {
            let parsed = TopicFilter::parse(text).ok().map(|filter| (filter.share, filter.filter));
            assert_eq!(parsed, expect, "{text}");
        }
        for good in ["#", "+", "a/#", "+/+", "/+", "+/a/#", "a//b", "/", "$SYS/#", "$shared/a"] {
            check(good, Some((None, good)));
        }
        for bad in ["", "a#", "a/#/b", "#/a", "a+/b", "+a", "a/b#", "##", "++"] {
            check(bad, None);
        }
        check("$share/g/a/b", Some((Some("g"), "a/b")));
        check("$share/g/#", Some((Some("g"), "#")));
        check("$share/g//a", Some((Some("g"), "/a")));
        for bad in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/#/a"] {
            check(bad, None);
        }
        check(&"a/".repeat(TOPIC_LEVELS_MAX), None);
    }

    #[test]
    fn what_a_filter_matches() {
        for (filter, topic, expect) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b", "a", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "b/c", false),
            ("+", "a", true),
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("$share/g/a/+", "a/b", true),
        ] {
            let parsed = TopicFilter::parse(filter).expect("a sound filter");
            assert_eq!(parsed.matches(topic), expect, "{filter} {topic}");
        }
    }
}
