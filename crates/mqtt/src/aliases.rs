//! Topic aliases of one connection (MQTT 5 §3.3.2.3.4), both directions. They end with the
//! connection.

use crate::error::Violation;
use bytes::Bytes;
use std::collections::HashMap;

/// Aliases that the client sets.
#[derive(Debug, Default)]
pub struct AliasesIn {
    /// By alias - 1; grows as the client sets them.
    topics: Vec<Option<Bytes>>,
}

impl AliasesIn {
    /// The topic of a publish: its own, which it may bind to an alias, or the one the alias stands
    /// for. `maximum` is what CONNACK announced.
    pub fn resolve(
        &mut self,
        topic: Bytes,
        alias: Option<u16>,
        maximum: u16,
    ) -> Result<Bytes, Violation> {
        let Some(alias) = alias else {
            return Ok(topic);
        };
        if alias == 0 || alias > maximum {
            return Err(Violation::TopicAlias);
        }
        let index = usize::from(alias) - 1;
        if topic.is_empty() {
            let bound = self.topics.get(index).and_then(Option::as_ref);
            return bound.cloned().ok_or(Violation::TopicMissing);
        }
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        // A copy, so that an alias does not keep a network buffer alive.
        self.topics[index] = Some(Bytes::copy_from_slice(&topic));
        Ok(topic)
    }
}

/// How a topic is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// In full, without an alias.
    None,
    /// In full, bound to this alias.
    New(u16),
    /// By alias alone.
    Known(u16),
}

/// Aliases that we set: the first topics sent get them, later ones are sent in full.
#[derive(Debug, Default)]
pub struct AliasesOut {
    maximum: u16,
    topics: HashMap<Bytes, u16>,
}

impl AliasesOut {
    /// `maximum` is the smaller of what the client allows and what we care to remember.
    pub fn new(maximum: u16) -> AliasesOut {
        AliasesOut { maximum, topics: HashMap::new() }
    }

    pub fn choose(&self, topic: &[u8]) -> Alias {
        if self.maximum == 0 {
            return Alias::None;
        }
        match self.topics.get(topic) {
            Some(alias) => Alias::Known(*alias),
            None if self.topics.len() < usize::from(self.maximum) => {
                // Below the maximum, which is a u16.
                Alias::New(self.topics.len() as u16 + 1)
            }
            None => Alias::None,
        }
    }

    /// The packet that binds `alias` to `topic` is on its way.
    pub fn bind(&mut self, topic: &[u8], alias: u16) {
        self.topics.insert(Bytes::copy_from_slice(topic), alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inbound_aliases_are_bound_used_and_rebound() {
        let mut aliases = AliasesIn::default();
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        assert_eq!(aliases.resolve(Bytes::new(), Some(2), 3), Err(Violation::TopicMissing));
        assert_eq!(aliases.resolve(a.clone(), Some(2), 3), Ok(a.clone()));
        assert_eq!(aliases.resolve(Bytes::new(), Some(2), 3), Ok(a.clone()));
        assert_eq!(aliases.resolve(b.clone(), Some(2), 3), Ok(b.clone()));
        assert_eq!(aliases.resolve(Bytes::new(), Some(2), 3), Ok(b));
        assert_eq!(aliases.resolve(Bytes::new(), Some(1), 3), Err(Violation::TopicMissing));
        assert_eq!(aliases.resolve(a.clone(), Some(4), 3), Err(Violation::TopicAlias));
        assert_eq!(aliases.resolve(a.clone(), Some(1), 0), Err(Violation::TopicAlias));
        assert_eq!(aliases.resolve(a.clone(), None, 0), Ok(a));
    }

    #[test]
    fn outbound_aliases_go_to_the_first_topics() {
        let mut aliases = AliasesOut::new(1);
        assert_eq!(aliases.choose(b"a"), Alias::New(1));
        assert_eq!(aliases.choose(b"a"), Alias::New(1), "not bound before it was sent");
        aliases.bind(b"a", 1);
        assert_eq!(aliases.choose(b"a"), Alias::Known(1));
        assert_eq!(aliases.choose(b"b"), Alias::None);
        assert_eq!(AliasesOut::default().choose(b"a"), Alias::None);
    }
}
