//! The topics in members' metadata. Groups of type "consumer" put Kafka's consumer subscription there;
//! every version of it starts with {version i16, topics [string]}. Only what guards offsets against
//! deletion and expiry needs it; what cannot be read is taken as "anything".

use bytes::{Buf, Bytes};
use std::collections::BTreeSet;

/// Protocol type of groups that consume topics.
pub(super) const CONSUMER: &str = "consumer";

/// The union of all members' topics; `None` for another type of group or unreadable metadata.
pub(super) fn subscribed_topics(
    protocol_type: &str,
    metadata: impl Iterator<Item = Bytes>,
) -> Option<BTreeSet<String>> {
    if protocol_type != CONSUMER {
        return None;
    }
    let mut all = BTreeSet::new();
    for metadata in metadata {
        read_topics(metadata, &mut all)?;
    }
    Some(all)
}

fn read_topics(mut metadata: Bytes, topics: &mut BTreeSet<String>) -> Option<()> {
    let _version = metadata.try_get_i16().ok()?;
    let count = metadata.try_get_i32().ok()?;
    for _ in 0..count {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        if length > metadata.len() {
            return None;
        }
        let topic = String::from_utf8(metadata.split_to(length).to_vec()).ok()?;
        topics.insert(topic);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(metadata: &[&'static [u8]]) -> Option<Vec<String>> {
        let metadata = metadata.iter().map(|bytes| Bytes::from_static(bytes));
        subscribed_topics(CONSUMER, metadata).map(|topics| topics.into_iter().collect())
    }

    #[test]
    fn union_of_what_can_be_read() {
        let a: &[u8] = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xFF\xFF\xFF\xFFrest of a later version";
        let b: &[u8] = b"\0\x00\0\0\0\x01\0\x01d";
        assert_eq!(topics(&[a, b]), Some(vec!["a".into(), "bc".into(), "d".into()]));
        assert_eq!(topics(&[]), Some(vec![]));
        assert_eq!(subscribed_topics("connect", [Bytes::from_static(b)].into_iter()), None);
    }

    #[test]
    fn malformed() {
        assert_eq!(topics(&[b""]), None);
        assert_eq!(topics(&[b"\0\0\0\0"]), None);
        assert_eq!(topics(&[b"\0\0\x7F\xFF\xFF\xFF\0\x01a"]), None);
        assert_eq!(topics(&[b"\0\0\0\0\0\x01\xFF\xFFa"]), None);
        assert_eq!(topics(&[b"\0\0\0\0\0\x01\0\x05a"]), None);
        assert_eq!(topics(&[b"\0\0\0\0\0\x01\0\x01\xFF"]), None);
    }
}
