//! What shards send each other. One mailbox per shard; mail from one shard to another arrives in the
//! order it was sent.

use koine_base::{ConnectionId, GroupId, ShardId, StreamId};
use koine_broker::membership::GroupListing;
use koine_broker::message::{Annotation, Content};
use koine_broker::metadata::{Command, NamespaceId, Refusal};
use koine_broker::once::OnceId;
use koine_broker::session::{ConsumerId, Event, Request, Token};
use std::sync::Arc;

/// A copy of a publish for one stream.
pub type Copy = (StreamId, Option<Annotation>);

#[derive(Debug)]
pub enum Mail {
    /// A session's request to the owner of its stream or group.
    Request {
        from: ConnectionId,
        request: Request,
    },
    /// The answer, or a delivery, to a session on its own shard.
    Event {
        to: ConnectionId,
        event: Event,
    },
    /// Store copies of a publish; answered by one `Stored`.
    Store {
        from: ShardId,
        ticket: u64,
        connection: ConnectionId,
        content: Content,
        copies: Vec<Copy>,
        /// A stream that holds a copy of this publish takes no second one.
        once: Option<OnceId>,
    },
    Stored {
        ticket: u64,
        result: Result<(), Refusal>,
    },
    /// Hand a volatile message to connected sessions.
    Live {
        from: ConnectionId,
        content: Content,
        receivers: Vec<(ConnectionId, Annotation)>,
    },
    /// So many bytes of the connection's volatile messages have been handed out here.
    LiveTaken {
        connection: ConnectionId,
        bytes: usize,
    },
    /// Commands of group 0 in the order they were committed.
    Commands {
        commands: Arc<Vec<Command>>,
        /// Group 0's shard waits to hear that they are applied: by `CommandsApplied` with this number.
        report: Option<u64>,
    },
    CommandsApplied {
        number: u64,
    },
    /// All of group 0's metadata, in place of the copy: this node was sent it as a whole.
    Metadata(Arc<Vec<u8>>),
    /// The group is led here under this leader epoch.
    Epoch {
        group: GroupId,
        epoch: i32,
    },
    /// The connection is gone: release what it holds here.
    Gone {
        connection: ConnectionId,
    },
    /// This much of what was delivered to the consumer has been taken by its peer's socket.
    Taken {
        connection: ConnectionId,
        stream: StreamId,
        consumer: ConsumerId,
        bytes: u64,
    },
    /// The sender's log has no room, or has room again.
    Full {
        shard: ShardId,
        is_full: bool,
    },
    /// What groups do you coordinate?
    ListGroups {
        from: ConnectionId,
        token: Token,
    },
    GroupsListed {
        to: ConnectionId,
        token: Token,
        groups: Vec<GroupListing>,
    },
    /// A queue's owner found the conditions of its deletion met; group 0's owner deletes it.
    DeleteChecked {
        from: ConnectionId,
        /// `None`: nobody asked, an auto-delete queue lost its last consumer.
        token: Option<Token>,
        namespace: NamespaceId,
        name: String,
        message_count: u64,
    },
}
