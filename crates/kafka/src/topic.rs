//! Topic names as Kafka requests use them: look-up by name or id, and which names may be created.
//! Topics and queues of the default namespace are all that Kafka clients see.

use crate::error::ErrorCode;
use crate::fetch_session::TopicRef;
use koine_base::{ConnectionId, StreamId, TopicId};
use koine_broker::metadata::{Metadata, Named, NamespaceId};

/// Kafka knows no namespaces; its clients live in `public/default`.
pub const NAMESPACE: NamespaceId = NamespaceId(0);

/// Kafka's own limit of a topic name.
pub const NAME_BYTES_MAX: usize = 249;

/// Who asks, and of what.
#[derive(Clone, Copy)]
pub struct Catalog<'a> {
    pub metadata: &'a Metadata,
    pub connection: ConnectionId,
}

impl<'a> Catalog<'a> {
    /// A topic, or a queue that is not another connection's own.
    pub fn find(self, name: &str) -> Result<Named<'a>, ErrorCode> {
        match self.metadata.named(NAMESPACE, name) {
            None => Err(ErrorCode::UnknownTopicOrPartition),
            Some(Named::Queue(queue)) if self.is_foreign(queue.spec.exclusive) => {
                Err(ErrorCode::TopicAuthorizationFailed)
            }
            Some(named) => Ok(named),
        }
    }

    fn is_foreign(self, exclusive: Option<u64>) -> bool {
        exclusive.is_some_and(|owner| owner != self.connection.raw())
    }

    /// The name of a topic id.
    pub fn name_of(self, id: [u8; 16]) -> Result<&'a str, ErrorCode> {
        match self.metadata.name_of(TopicId(id)) {
            Some((NAMESPACE, name)) => Ok(name),
            _ => Err(ErrorCode::UnknownTopicId),
        }
    }

    /// The name of a topic, whichever way it was named.
    pub fn name<'n>(self, topic: &'n TopicRef) -> Result<&'n str, ErrorCode>
    where
        'a: 'n,
    {
        match topic {
            TopicRef::Name(name) => Ok(name),
            TopicRef::Id(id) => self.name_of(*id),
        }
    }

    pub fn stream(self, name: &str, index: i32) -> Result<StreamId, ErrorCode> {
        self.find(name)?.stream(index).ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// Every visible topic and queue, in order of name within each kind.
    pub fn all(self) -> impl Iterator<Item = (&'a str, Named<'a>)> {
        let topics =
            self.metadata.topics(NAMESPACE).map(|(name, topic)| (name, Named::Topic(topic)));
        let queues = self
            .metadata
            .queues(NAMESPACE)
            .filter(move |(_, queue)| !self.is_foreign(queue.spec.exclusive))
            .map(|(name, queue)| (name, Named::Queue(queue)));
        topics.chain(queues)
    }
}

/// Whether Kafka would create a topic of this name; the error is a text for the client.
pub fn check_new_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".into());
    }
    if name == "." || name == ".." {
        return Err("Topic name is invalid: '.' or '..' is not allowed".into());
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "Topic name is invalid: it is longer than {NAME_BYTES_MAX} characters"
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.chars().all(legal) {
        return Err("Topic name is invalid: it holds a character other than ASCII letters, digits, '.', '_' and '-'".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_follow_kafkas_rules() {
        let check = |name: &str, legal| assert_eq!(check_new_name(name).is_ok(), legal, "{name}");
        check("a", true);
        check("A.b_c-9", true);
        check(&"x".repeat(249), true);
        check(&"x".repeat(250), false);
        check("", false);
        check(".", false);
        check("..", false);
        check("a b", false);
        check("a/b", false);
        check("é", false);
    }
}
