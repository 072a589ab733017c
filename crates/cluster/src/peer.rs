//! What replicas of a group send each other, and its bytes. Numbers are big-endian.
//!
//! ```text
//! | group u16 | stamp u64 | returned u64 | kind u8 | body |
//!
//! 1 raft      kind u8 | to | from | term | log term | index | commit | commit term | reject hint |
//!             request u64 each | reject u8 | count u32 | entries: kind u8 | term | index | length u32 | data
//! 2 stranger  term u64
//! 3 piece     see below
//! 4 received  install u64 | next u64 | done u8
//! ```

use crate::consensus::{Configuration, LogPoint};
use bytes::{Buf, BufMut, Bytes};
use koine_base::{GroupId, StreamId};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

/// Largest mail: an entry of the largest size with what surrounds it.
pub const PEER_MAIL_BYTES_MAX: usize = koine_log::FRAME_PAYLOAD_BYTES_MAX + (1 << 16);

/// Nodes in one list of a configuration.
const NODES_MAX: usize = 64;

const RAFT: u8 = 1;
const STRANGER: u8 = 2;
const PIECE: u8 = 3;
const RECEIVED: u8 = 4;

/// Raft's messages with our own numbers.
const KINDS: [(u8, MessageType); 8] = [
    (1, MessageType::MsgAppend),
    (2, MessageType::MsgAppendResponse),
    (3, MessageType::MsgHeartbeat),
    (4, MessageType::MsgHeartbeatResponse),
    (5, MessageType::MsgRequestVote),
    (6, MessageType::MsgRequestVoteResponse),
    (7, MessageType::MsgRequestPreVote),
    (8, MessageType::MsgRequestPreVoteResponse),
];

/// One message to the same group on another node, there on the same shard. It may get lost, come twice
/// or late.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerMail {
    pub(crate) group: GroupId,
    /// The sender's clock, microseconds; and the highest of ours that it heard as our follower.
    pub(crate) stamp: u64,
    pub(crate) returned: u64,
    pub(crate) body: PeerBody,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PeerBody {
    Raft(Message),
    /// You asked for a vote, and have no part in the group as of this term.
    Stranger {
        term: u64,
    },
    /// A part of a group's whole state.
    Piece(Piece),
    /// The pieces below `next` are durable; `is_done`: all are, or none is wanted.
    Received {
        install: u64,
        next: u64,
        is_done: bool,
    },
}

/// One of the numbered parts that a group's whole state is sent in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    /// Tells one sending from another.
    pub install: u64,
    /// Of the sender's office.
    pub term: u64,
    /// From 0.
    pub number: u64,
    pub body: PieceBody,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PieceBody {
    Begin {
        point: LogPoint,
        configuration: Configuration,
    },
    /// The next bytes of the group's encoded state.
    State(Bytes),
    /// Whole batches of a stream, one after the other.
    Batches {
        stream: StreamId,
        batches: Bytes,
    },
    End,
}

impl PeerMail {
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// For traces.
    pub fn describe(&self) -> String {
        let group = self.group.0;
        match &self.body {
            PeerBody::Raft(m) => format!(
                "group {group} {:?} term {} index {}/{} commit {} entries {}{}",
                m.get_msg_type(),
                m.term,
                m.index,
                m.log_term,
                m.commit,
                m.entries.len(),
                if m.reject { " reject" } else { "" },
            ),
            PeerBody::Stranger { term } => format!("group {group} stranger in term {term}"),
            PeerBody::Piece(piece) => {
                let Piece { install, term, number, body } = piece;
                let what = match body {
                    PieceBody::Begin { point, .. } => format!("begin at {}", point.index),
                    PieceBody::State(bytes) => format!("state {}", bytes.len()),
                    PieceBody::Batches { stream, batches } => {
                        format!("batches of {stream} {}", batches.len())
                    }
                    PieceBody::End => "end".to_owned(),
                };
                format!("group {group} piece {number} of {install:x} term {term}: {what}")
            }
            PeerBody::Received { install, next, is_done } => {
                format!("group {group} received {next} of {install:x} done {is_done}")
            }
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.group.0);
        out.put_u64(self.stamp);
        out.put_u64(self.returned);
        match &self.body {
            PeerBody::Raft(message) => {
                out.put_u8(RAFT);
                encode_message(message, out);
            }
            PeerBody::Stranger { term } => {
                out.put_u8(STRANGER);
                out.put_u64(*term);
            }
            PeerBody::Piece(piece) => {
                out.put_u8(PIECE);
                piece.encode(out);
            }
            PeerBody::Received { install, next, is_done } => {
                out.put_u8(RECEIVED);
                out.put_u64(*install);
                out.put_u64(*next);
                out.put_u8(u8::from(*is_done));
            }
        }
    }

    /// `None` for anything that [`Self::encode`] would not write or a sound replica not send.
    pub fn decode(input: &[u8]) -> Option<PeerMail> {
        if input.len() > PEER_MAIL_BYTES_MAX {
            return None;
        }
        let mut rest = Bytes::copy_from_slice(input);
        let group = GroupId(take_u16(&mut rest)?);
        let stamp = take_u64(&mut rest)?;
        let returned = take_u64(&mut rest)?;
        let body = match take_u8(&mut rest)? {
            RAFT => PeerBody::Raft(decode_message(&mut rest)?),
            STRANGER => PeerBody::Stranger { term: take_u64(&mut rest)? },
            PIECE => PeerBody::Piece(Piece::decode(&mut rest)?),
            RECEIVED => PeerBody::Received {
                install: take_u64(&mut rest)?,
                next: take_u64(&mut rest)?,
                is_done: take_flag(&mut rest)?,
            },
            _ => return None,
        };
        rest.is_empty().then_some(PeerMail { group, stamp, returned, body })
    }
}

fn encode_message(message: &Message, out: &mut Vec<u8>) {
    let kind = KINDS.iter().find(|(_, kind)| *kind == message.get_msg_type());
    out.put_u8(kind.map_or(0, |(number, _)| *number));
    for number in [
        message.to,
        message.from,
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
        message.request_snapshot,
    ] {
        out.put_u64(number);
    }
    out.put_u8(u8::from(message.reject));
    out.put_u32(message.entries.len() as u32);
    for entry in message.entries.iter() {
        out.put_u8(u8::from(entry.get_entry_type() == EntryType::EntryConfChangeV2));
        out.put_u64(entry.term);
        out.put_u64(entry.index);
        out.put_u32(entry.data.len() as u32);
        out.extend_from_slice(&entry.data);
    }
}

fn decode_message(rest: &mut Bytes) -> Option<Message> {
    let mut message = Message::default();
    let kind = take_u8(rest)?;
    message.set_msg_type(KINDS.iter().find(|(number, _)| *number == kind)?.1);
    message.to = take_u64(rest)?;
    message.from = take_u64(rest)?;
    message.term = take_u64(rest)?;
    message.log_term = take_u64(rest)?;
    message.index = take_u64(rest)?;
    message.commit = take_u64(rest)?;
    message.commit_term = take_u64(rest)?;
    message.reject_hint = take_u64(rest)?;
    message.request_snapshot = take_u64(rest)?;
    message.reject = take_flag(rest)?;
    let count = take_u32(rest)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let mut entry = Entry::default();
        if take_flag(rest)? {
            entry.set_entry_type(EntryType::EntryConfChangeV2);
        }
        entry.term = take_u64(rest)?;
        entry.index = take_u64(rest)?;
        entry.data = take_sized(rest)?;
        if entry.data.len() > koine_log::FRAME_PAYLOAD_BYTES_MAX {
            return None;
        }
        entries.push(entry);
    }
    message.set_entries(entries.into());
    crate::raft::is_sound(&message).then_some(message)
}

impl Piece {
    const BEGIN: u8 = 1;
    const STATE: u8 = 2;
    const BATCHES: u8 = 3;
    const END: u8 = 4;

    /// `| install u64 | term u64 | number u64 | kind u8 | body |`; also what its frame in the log holds.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.install);
        out.put_u64(self.term);
        out.put_u64(self.number);
        match &self.body {
            PieceBody::Begin { point, configuration } => {
                out.put_u8(Self::BEGIN);
                out.put_u64(point.index);
                out.put_u64(point.term);
                encode_configuration(configuration, out);
            }
            PieceBody::State(bytes) => {
                out.put_u8(Self::STATE);
                out.extend_from_slice(bytes);
            }
            PieceBody::Batches { stream, batches } => {
                out.put_u8(Self::BATCHES);
                out.put_u64(stream.raw());
                out.extend_from_slice(batches);
            }
            PieceBody::End => out.put_u8(Self::END),
        }
    }

    pub fn decode(rest: &mut Bytes) -> Option<Piece> {
        let install = take_u64(rest)?;
        let term = take_u64(rest)?;
        let number = take_u64(rest)?;
        let body = match take_u8(rest)? {
            Self::BEGIN => {
                let point = LogPoint { index: take_u64(rest)?, term: take_u64(rest)? };
                PieceBody::Begin { point, configuration: decode_configuration(rest)? }
            }
            Self::STATE => PieceBody::State(rest.split_to(rest.len())),
            Self::BATCHES => {
                let stream = StreamId::from_raw(take_u64(rest)?);
                PieceBody::Batches { stream, batches: rest.split_to(rest.len()) }
            }
            Self::END => PieceBody::End,
            _ => return None,
        };
        rest.is_empty().then_some(Piece { install, term, number, body })
    }
}

fn encode_configuration(configuration: &Configuration, out: &mut Vec<u8>) {
    let Configuration { voters, learners, outgoing, learners_next, auto_leave } = configuration;
    for list in [voters, learners, outgoing, learners_next] {
        out.put_u8(list.len() as u8);
        for node in list {
            out.put_u64(*node);
        }
    }
    out.put_u8(u8::from(*auto_leave));
}

fn decode_configuration(rest: &mut Bytes) -> Option<Configuration> {
    let mut lists: [Vec<u64>; 4] = Default::default();
    for list in &mut lists {
        let count = usize::from(take_u8(rest)?);
        if count > NODES_MAX {
            return None;
        }
        for _ in 0..count {
            list.push(take_u64(rest)?);
        }
        // Ascending, and none twice.
        if list.windows(2).any(|pair| pair[0] >= pair[1]) || list.contains(&0) {
            return None;
        }
    }
    let [voters, learners, outgoing, learners_next] = lists;
    let auto_leave = take_flag(rest)?;
    Some(Configuration { voters, learners, outgoing, learners_next, auto_leave })
}

fn take_u8(rest: &mut Bytes) -> Option<u8> {
    (!rest.is_empty()).then(|| rest.get_u8())
}

fn take_flag(rest: &mut Bytes) -> Option<bool> {
    match take_u8(rest)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn take_u16(rest: &mut Bytes) -> Option<u16> {
    (rest.len() >= 2).then(|| rest.get_u16())
}

fn take_u32(rest: &mut Bytes) -> Option<u32> {
    (rest.len() >= 4).then(|| rest.get_u32())
}

fn take_u64(rest: &mut Bytes) -> Option<u64> {
    (rest.len() >= 8).then(|| rest.get_u64())
}

fn take_sized(rest: &mut Bytes) -> Option<Bytes> {
    let length = take_u32(rest)? as usize;
    (length <= rest.len()).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mails() -> Vec<PeerMail> {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        (message.from, message.to, message.term) = (1, 2, 7);
        (message.index, message.log_term, message.commit) = (40, 6, 39);
        let mut first = Entry::default();
        (first.index, first.term, first.data) = (41, 6, Bytes::from_static(b"data"));
        let mut second = Entry::default();
        (second.index, second.term) = (42, 7);
        second.set_entry_type(EntryType::EntryConfChangeV2);
        message.set_entries(vec![first, second].into());
        let configuration = Configuration {
            voters: vec![1, 2, 3],
            outgoing: vec![1, 4],
            learners: vec![9],
            learners_next: vec![4],
            auto_leave: true,
        };
        let stream = StreamId::new(GroupId(3), 5);
        let pieces = [
            PieceBody::Begin { point: LogPoint { index: 9, term: 2 }, configuration },
            PieceBody::State(Bytes::from_static(b"state")),
            PieceBody::Batches { stream, batches: Bytes::from_static(b"batches") },
            PieceBody::End,
        ];
        let pieces = pieces
            .into_iter()
            .zip(0..)
            .map(|(body, number)| PeerBody::Piece(Piece { install: 77, term: 8, number, body }));
        let others = [
            PeerBody::Raft(message),
            PeerBody::Stranger { term: 4 },
            PeerBody::Received { install: 77, next: 3, is_done: true },
        ];
        let bodies = others.into_iter().chain(pieces);
        bodies.map(|body| PeerMail { group: GroupId(3), stamp: 11, returned: 12, body }).collect()
    }

    #[test]
    fn what_is_encoded_comes_back_and_nothing_else_panics() {
        for mail in mails() {
            let mut bytes = Vec::new();
            mail.encode(&mut bytes);
            assert_eq!(PeerMail::decode(&bytes).as_ref(), Some(&mail));
            for at in 0..bytes.len() {
                let _ = PeerMail::decode(&bytes[..at]);
                for flip in [0x01, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= flip;
                    if let Some(read) = PeerMail::decode(&damaged) {
                        let mut again = Vec::new();
                        read.encode(&mut again);
                        assert_eq!(again, damaged, "at {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_message_with_a_gap_is_none() {
        let mut mail = mails().remove(0);
        let PeerBody::Raft(message) = &mut mail.body else { panic!() };
        message.mut_entries()[1].index = 44;
        let mut bytes = Vec::new();
        mail.encode(&mut bytes);
        assert_eq!(PeerMail::decode(&bytes), None);
    }
}
