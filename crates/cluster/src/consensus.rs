//! What the node needs from a replicated log of entries, and nothing of how it is reached. One value
//! per group. Sans-I/O: persistence and messages are the caller's, told through [`Ready`].

use bytes::Bytes;

/// One slot of the replicated log. Empty `data` is a leader's own-term no-op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    pub data: Bytes,
}

/// What a voter must remember across restarts beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    pub vote: u64,
}

/// Work a group has for its caller.
#[derive(Debug, Default)]
pub struct Ready {
    /// To be made durable, in order; then call [`Consensus::persisted`] with the last index.
    pub entries: Vec<Entry>,
    /// To be made durable before `entries`.
    pub hard_state: Option<HardState>,
    /// Committed: apply in order, then call [`Consensus::applied`].
    pub committed: Vec<Entry>,
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLeader;

pub trait Consensus {
    /// Offers one entry. It is committed when it comes back in `Ready::committed`.
    fn propose(&mut self, data: Vec<u8>) -> Result<(), NotLeader>;

    /// Collects work; `None` if there is none.
    fn ready(&mut self) -> Option<Ready>;

    /// Everything handed out in [`Ready`] up to `index`, and the hard state before it, is durable.
    fn persisted(&mut self, index: u64);

    /// Everything up to `index` is applied.
    fn applied(&mut self, index: u64);

    /// True once this replica leads and its own-term no-op is applied: only then may it serve.
    fn is_serving(&self) -> bool;

    fn term(&self) -> u64;
}
