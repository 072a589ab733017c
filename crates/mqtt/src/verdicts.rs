//! Verdicts about topics, remembered per connection: what a client does all the time is decided once per
//! change of users, rules or topics, not once per message. Holds answers only; asks nobody.

use bytes::Bytes;
use koine_base::checksum::crc32c;

/// Topics remembered per connection and direction.
const SLOTS: usize = 16;

/// A longer topic is asked about each time, so that a connection's verdicts stay small.
const TOPIC_BYTES_MAX: usize = 1024;

#[derive(Debug)]
struct Slot {
    topic: Bytes,
    version: u64,
    is_allowed: bool,
}

/// A small direct-mapped cache.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// Empty until the first question, so that a node without users pays nothing.
    slots: Vec<Option<Slot>>,
}

fn slot_of(topic: &[u8]) -> usize {
    crc32c(topic) as usize % SLOTS
}

impl Verdicts {
    /// `version` is that of the rights now ([`koine_broker::metadata::Metadata::rights_version`]).
    pub fn find(&self, topic: &[u8], version: u64) -> Option<bool> {
        let slot = self.slots.get(slot_of(topic))?.as_ref()?;
        (slot.version == version && slot.topic == topic).then_some(slot.is_allowed)
    }

    pub fn remember(&mut self, topic: &[u8], version: u64, is_allowed: bool) {
        if topic.len() > TOPIC_BYTES_MAX {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let topic = Bytes::copy_from_slice(topic);
        let slot = slot_of(&topic);
        self.slots[slot] = Some(Slot { topic, version, is_allowed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_for_one_topic_and_one_state_of_the_rules() {
        let mut verdicts = Verdicts::default();
        assert_eq!(verdicts.find(b"a", 1), None);
        verdicts.remember(b"a", 1, true);
        verdicts.remember(b"b", 1, false);
        assert_eq!((verdicts.find(b"a", 1), verdicts.find(b"b", 1)), (Some(true), Some(false)));
        assert_eq!((verdicts.find(b"a", 2), verdicts.find(b"c", 1)), (None, None));
        let long = vec![b'x'; TOPIC_BYTES_MAX + 1];
        verdicts.remember(&long, 1, true);
        assert_eq!(verdicts.find(&long, 1), None);
    }
}
