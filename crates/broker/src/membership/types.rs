//! What is asked of consumer-group membership, and what it answers. The words are those of Kafka's
//! classic groups; the machine knows nothing of Kafka's encoding or error numbers.

use bytes::Bytes;

/// One request about groups. `Answer` of the same name answers it, possibly much later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Join(Join),
    Sync(Sync),
    Heartbeat {
        group: String,
        member: MemberRef,
        generation: i32,
    },
    Leave {
        group: String,
        members: Vec<MemberRef>,
    },
    Describe {
        group: String,
    },
    /// Only an empty group goes; its offsets go with it.
    Delete {
        group: String,
    },
}

impl Request {
    /// The group it is about.
    pub fn group(&self) -> &str {
        match self {
            Request::Join(join) => &join.group,
            Request::Sync(sync) => &sync.group,
            Request::Heartbeat { group, .. }
            | Request::Leave { group, .. }
            | Request::Describe { group }
            | Request::Delete { group } => group,
        }
    }
}

/// How a client names itself in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRef {
    /// Empty if none was given out yet.
    pub member_id: String,
    /// Set for static members.
    pub instance_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Join {
    pub group: String,
    pub member: MemberRef,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: u32,
    pub rebalance_timeout_ms: u32,
    pub protocol_type: String,
    /// Assignors in order of preference, each with the member's metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// A first join without member id is answered with `MemberIdRequired` and an id.
    pub require_known_member_id: bool,
    /// The client understands `skip_assignment`.
    pub supports_skipping_assignment: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sync {
    pub group: String,
    pub member: MemberRef,
    pub generation: i32,
    /// Checked if given.
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// From the leader: member id and assignment.
    pub assignments: Vec<(String, Bytes)>,
}

/// One member that was asked to leave, and whether it did.
pub type LeftMember = (MemberRef, Result<(), GroupError>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Join(Result<Joined, JoinRefused>),
    Sync(Result<Synced, GroupError>),
    Heartbeat(Result<(), GroupError>),
    /// Per member asked for, in order; the outer error is for the whole request.
    Leave(Result<Vec<LeftMember>, GroupError>),
    /// A group that is not known is described as dead.
    Describe(Result<GroupDescription, GroupError>),
    Delete(Result<(), GroupError>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol_name: String,
    pub leader: String,
    pub member_id: String,
    pub skip_assignment: bool,
    /// For the leader only: every member with its metadata for the chosen protocol.
    pub members: Vec<JoinedMember>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    pub error: GroupError,
    /// The id to come back with, for `MemberIdRequired`; else what was sent.
    pub member_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol_name: String,
    pub assignment: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPhase {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    pub group: String,
    pub phase: GroupPhase,
    pub protocol_type: String,
    pub protocol_name: String,
    pub members: Vec<MemberDescription>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// A line of the list of groups. Groups that only hold offsets are listed as empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    pub group: String,
    pub protocol_type: String,
    pub phase: GroupPhase,
}

/// Who commits offsets, for the check against the membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitMember {
    pub member: MemberRef,
    /// Below 0 for a client that does not take part in the group.
    pub generation: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupError {
    InvalidGroupId,
    /// A first join: come back with the id given.
    MemberIdRequired,
    UnknownMemberId,
    IllegalGeneration,
    RebalanceInProgress,
    InconsistentGroupProtocol,
    InvalidSessionTimeout,
    FencedInstanceId,
    GroupMaxSizeReached,
    /// Delete: members are in it.
    NonEmptyGroup,
    GroupIdNotFound,
    /// Delete offsets: a member is subscribed to the topic.
    GroupSubscribedToTopic,
    /// A commit: a note is too long.
    OffsetMetadataTooLarge,
    /// A commit: there is no room for offsets of more partitions or groups.
    TooManyOffsets,
    /// The coordinator cannot write (disk full) or is not ready; try again.
    CoordinatorNotAvailable,
    /// Another node coordinates the group.
    NotCoordinator,
}
