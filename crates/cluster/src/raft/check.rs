//! What a message of another replica must be like before the `raft` crate sees it: there, some that no
//! sound replica sends are the end of the process.

use super::store::Store;
use raft::eraftpb::{Message, MessageType};
use raft::Raft;

/// True if a message is one of those that replicas send each other, and consistent in itself.
pub fn is_sound(message: &Message) -> bool {
    if message.term == 0 || message.from == 0 {
        return false;
    }
    match message.get_msg_type() {
        MessageType::MsgAppend => {
            let mut before = (message.index, message.log_term);
            message.log_term <= message.term
                && message.entries.iter().all(|entry| {
                    let follows = before.0.checked_add(1) == Some(entry.index)
                        && entry.term >= before.1
                        && entry.term <= message.term;
                    before = (entry.index, entry.term);
                    follows
                })
        }
        // A vote is asked for with a context only by those whom a leader told to take over at once,
        // against what voters promised it. We never do.
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => message.context.is_empty(),
        MessageType::MsgAppendResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgSnapshot => true,
        _ => false,
    }
}

/// True if a sound message can be true where this replica stands.
pub(super) fn fits(raft: &Raft<Store>, message: &Message) -> bool {
    if !is_sound(message) || message.to != raft.id || message.from == raft.id {
        return false;
    }
    let log = &raft.raft_log;
    match message.get_msg_type() {
        MessageType::MsgHeartbeat => message.term < raft.term || message.commit <= log.last_index(),
        // The log of a leader holds all that is committed here.
        MessageType::MsgAppend => {
            let committed_term = log.term(log.committed).unwrap_or(u64::MAX);
            message.term < raft.term
                || message.index < log.committed
                || message.log_term >= committed_term
        }
        MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse => {
            message.term != raft.term
                || message.reject
                || message.index <= log.last_index() && message.commit <= log.last_index()
        }
        _ => true,
    }
}
