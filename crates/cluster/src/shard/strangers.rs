//! What peers that have not logged in may make this shard hold, all together: on a node with users,
//! anybody who reaches a port can send the beginning of a frame and leave it at that. Above the budget the
//! one that holds most is closed, which is never who has just come with little.

use super::Shard;
use koine_base::ConnectionId;
use std::collections::HashMap;

pub(super) struct Strangers {
    bytes_max: usize,
    /// Unread input of each that has any.
    held: HashMap<ConnectionId, usize>,
    total: usize,
}

impl Strangers {
    /// `bytes_max` is this shard's share of the node's budget.
    pub fn new(bytes_max: usize) -> Self {
        Strangers { bytes_max, held: HashMap::new(), total: 0 }
    }

    pub fn forget(&mut self, id: ConnectionId) {
        self.total -= self.held.remove(&id).unwrap_or_default();
    }

    /// Counts what one holds; who has to go for it.
    fn count(&mut self, id: ConnectionId, bytes: usize) -> Option<ConnectionId> {
        self.forget(id);
        if bytes > 0 {
            self.held.insert(id, bytes);
            self.total += bytes;
        }
        if self.total <= self.bytes_max {
            return None;
        }
        self.held.iter().max_by_key(|(id, bytes)| (**bytes, **id)).map(|(id, _)| *id)
    }
}

impl Shard {
    /// A peer's step is over and left so much of its input.
    pub(super) fn count_stranger(&mut self, id: ConnectionId, bytes: usize) {
        let is_stranger = self
            .connections
            .get(&id)
            .is_some_and(|connection| !connection.is_known && !connection.output.close);
        if !is_stranger || !self.metadata.access().is_secured() {
            return;
        }
        if let Some(largest) = self.strangers.count(id, bytes) {
            self.strangers.forget(largest);
            if let Some(connection) = self.connections.get_mut(&largest) {
                self.meters[connection.protocol.index()].evicted += 1;
                connection.output.close = true;
                self.changed.push(largest);
            }
        }
    }

    /// It has logged in.
    pub(super) fn know(&mut self, id: ConnectionId) {
        self.strangers.forget(id);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.is_known = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_base::ShardId;

    fn id(number: u64) -> ConnectionId {
        ConnectionId::new(ShardId(0), number)
    }

    #[test]
    fn the_largest_goes_and_not_who_came_last() {
        let mut strangers = Strangers::new(100);
        assert_eq!(strangers.count(id(1), 60), None);
        assert_eq!(strangers.count(id(2), 40), None);
        assert_eq!(strangers.count(id(3), 1), Some(id(1)));
        strangers.forget(id(1));
        assert_eq!(strangers.count(id(4), 59), None);
        assert_eq!(strangers.count(id(3), 0), None, "its frame is whole");
        assert_eq!(strangers.count(id(2), 42), Some(id(4)));
    }
}
