//! The replicas of this shard's groups on other nodes: their mail, the time that consensus needs, and
//! what it means here to gain or lose leadership.

use super::{Event, Shard};
use crate::consensus::GroupPosition;
use crate::group::DataGroup;
use crate::peer::{PeerBody, PeerMail};
use crate::raft::{node_id, TICK_MS};
use koine_base::{ConnectionId, GroupId, Moment, NodeId, Now, StreamId};
use koine_broker::metadata::Refusal;
use raft::eraftpb::{Message, MessageType};

/// Ticks made up for when the host is late. What was slept through beyond that did not happen: a
/// follower that could not listen must not take that for silence.
const TICKS_AT_ONCE_MAX: u64 = 3;

/// Mail to other nodes that the host has not taken away yet. Beyond it mail is dropped, as a network
/// would.
const PEER_OUTBOX_MAX: usize = 1 << 16;

impl Shard {
    /// Mail for the same shard of other nodes since the last call.
    pub fn take_peer_mail(&mut self) -> Vec<(NodeId, PeerMail)> {
        std::mem::take(&mut self.peer_outbox)
    }

    /// Mail from the same shard of another node.
    pub fn peer_mail(&mut self, now: Now, from: NodeId, mail: PeerMail) {
        self.now = now;
        let PeerMail { group: id, stamp, returned, body } = mail;
        let Some(consensus) = self.consensus_mut(id) else { return };
        match body {
            PeerBody::Raft(message) => {
                if message.from != u64::from(from.0) {
                    return;
                }
                self.tell_stranger(id, &message);
                if let Some(consensus) = self.consensus_mut(id) {
                    consensus.step(now.moment, message, stamp, returned);
                }
            }
            PeerBody::Stranger { term } => consensus.exclude(term),
            PeerBody::Piece(piece) => self.receive_piece(id, u64::from(from.0), piece),
            PeerBody::Received { install, next, is_done } => {
                self.pieces_received(id, u64::from(from.0), install, next, is_done);
            }
        }
        self.follow_office(id);
        self.run();
    }

    /// A node that was removed may not have heard of it: told so, it stops asking for votes.
    fn tell_stranger(&mut self, id: GroupId, message: &Message) {
        let asks = matches!(
            message.get_msg_type(),
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
        );
        let now = self.now.moment;
        let Some(consensus) = self.consensus(id).filter(|_| asks) else { return };
        if consensus.is_stranger(now, message.from) {
            let term = consensus.term();
            self.post_peer(id, message.from, PeerBody::Stranger { term });
        }
    }

    /// Who leads the group, as far as this replica knows.
    pub fn leader(&self, group: GroupId) -> Option<NodeId> {
        self.consensus(group)?.leader()
    }

    /// True if this replica leads the group and has applied the first entry of its own term.
    pub fn is_serving_group(&self, group: GroupId) -> bool {
        if group == GroupId::METADATA {
            return self.controller.as_ref().is_some_and(|controller| controller.is_serving());
        }
        self.groups.get(&group).is_some_and(DataGroup::is_serving)
    }

    /// All zero if the group is not of this shard.
    pub fn position(&self, group: GroupId) -> GroupPosition {
        self.consensus(group).map(crate::raft::RaftGroup::position).unwrap_or_default()
    }

    /// Changes who votes in a group that is led from here. Returns at once; [`Self::position`] shows
    /// how far it is. A change that its leader does not live to complete has to be asked for again.
    pub fn change_voters(
        &mut self,
        now: Now,
        group: GroupId,
        voters: Vec<NodeId>,
    ) -> Result<(), Refusal> {
        self.now = now;
        if voters.is_empty() || voters.iter().any(|node| node.0 == 0) {
            return Err(Refusal::InvalidName);
        }
        if !self.is_serving_group(group) {
            return Err(Refusal::NotLeader);
        }
        let Some(consensus) = self.consensus_mut(group) else { return Err(Refusal::NotLeader) };
        consensus.change_voters(&voters).map_err(|_| Refusal::NotLeader)?;
        self.run();
        Ok(())
    }

    pub(super) fn group_ids(&self) -> Vec<GroupId> {
        let control = self.controller.as_ref().map(|_| GroupId::METADATA);
        control.into_iter().chain(self.groups.keys().copied()).collect()
    }

    /// A connection of this shard of this node; others have the same shard numbers.
    pub(super) fn is_own_connection(&self, connection: ConnectionId) -> bool {
        connection.shard() == self.config.shard
            && (connection.raw() ^ self.next_connection) & 0xffff_0000_0000 == 0
    }

    /// Who has a part in the groups may have changed.
    pub(super) fn note_company(&mut self) {
        let ids = self.group_ids();
        let is_alone =
            |id: &GroupId| self.consensus(*id).is_none_or(crate::raft::RaftGroup::is_alone);
        self.is_alone = ids.iter().all(is_alone);
        if self.is_alone {
            self.next_raft_tick = Moment::NEVER;
        } else if self.next_raft_tick == Moment::NEVER {
            self.next_raft_tick = self.now.moment.after_ms(TICK_MS);
        }
    }

    pub(super) fn apply_change(&mut self, id: GroupId, data: &[u8]) {
        if let Some(consensus) = self.consensus_mut(id) {
            let readable = consensus.apply_change(data);
            assert!(readable, "an entry that passed its checksum is what was proposed");
        }
        self.note_company();
    }

    pub(super) fn tick_consensus(&mut self) {
        let now = self.now.moment;
        if now < self.next_raft_tick {
            return;
        }
        let late = now.since(self.next_raft_tick).as_millis() as u64 / TICK_MS;
        let count = (1 + late).min(TICKS_AT_ONCE_MAX);
        let next = self.next_raft_tick.after_ms(count * TICK_MS);
        self.next_raft_tick = if next > now { next } else { now.after_ms(TICK_MS) };
        for id in self.group_ids() {
            for _ in 0..count {
                if let Some(consensus) = self.consensus_mut(id) {
                    consensus.tick();
                }
            }
            self.follow_office(id);
        }
        self.tick_sendings();
    }

    /// Hands on what raft wants sent.
    pub(super) fn post_messages(&mut self) {
        if self.is_alone {
            return;
        }
        for id in self.group_ids() {
            let Some(consensus) = self.consensus_mut(id) else { continue };
            let mut messages = consensus.take_messages();
            // In an order that no hash map decides.
            messages.sort_by_key(|message| message.to);
            for message in messages {
                if message.get_msg_type() == MessageType::MsgSnapshot {
                    self.start_sending(id, message.to);
                    continue;
                }
                self.post_peer(id, message.to, PeerBody::Raft(message));
            }
        }
    }

    pub(super) fn post_peer(&mut self, group: GroupId, to: u64, body: PeerBody) {
        let stamp = self.now.moment.0;
        let Some(to_node) = node_id(to) else { return };
        let Some(consensus) = self.consensus(group) else { return };
        let returned = consensus.stamp_for(to);
        if self.peer_outbox.len() < PEER_OUTBOX_MAX {
            self.peer_outbox.push((to_node, PeerMail { group, stamp, returned, body }));
        }
    }

    // ---- leadership

    /// True if requests that change something are taken for this group.
    pub(super) fn may_serve(&self, id: GroupId) -> bool {
        self.is_alone || self.is_serving_group(id)
    }

    /// True if what is applied here is all that anybody can have been told of.
    pub(super) fn may_read(&self, id: GroupId) -> bool {
        self.is_alone
            || self.is_serving_group(id)
                && self
                    .consensus(id)
                    .is_some_and(|consensus| consensus.has_mandate(self.now.moment))
    }

    /// Acts on it if this replica has become or is no longer the leader of the group.
    pub(super) fn follow_office(&mut self, id: GroupId) {
        let Some(consensus) = self.consensus(id) else { return };
        let (office, is_serving) = (consensus.office(), consensus.is_serving());
        let before = match (self.groups.get(&id), &self.controller) {
            (Some(group), _) => (group.office, group.is_prepared),
            (None, Some(controller)) => (controller.office, controller.is_prepared),
            (None, None) => return,
        };
        if before == (office, true) && is_serving {
            return;
        }
        if before.0 != office {
            if before.0.is_some() {
                self.leave_office(id);
            }
            match (self.groups.get_mut(&id), &mut self.controller) {
                (Some(group), _) => {
                    group.office = office;
                    // What it applied as a follower since its start is none of a leader's.
                    group.is_prepared &= group.consensus.is_alone();
                    group.consensus.note_office();
                }
                (None, Some(controller)) => {
                    controller.office = office;
                    controller.consensus.note_office();
                }
                (None, None) => {}
            }
        }
        if is_serving {
            self.enter_office(id);
        }
    }

    /// All that was committed before is applied: this replica takes over.
    fn enter_office(&mut self, id: GroupId) {
        if id == GroupId::METADATA {
            let at = self.now.wall.0;
            if let Some(controller) = self.controller.as_mut().filter(|c| !c.is_prepared) {
                controller.prepare(at);
            }
            return;
        }
        let Some(group) = self.groups.get_mut(&id).filter(|group| !group.is_prepared) else {
            return;
        };
        group.prepare();
        self.trim_settled(Some(id));
    }

    /// Leadership is lost. Whoever waited learns that the outcome is not known here; whoever consumes
    /// is detached, and what only the leader knew is forgotten.
    fn leave_office(&mut self, id: GroupId) {
        self.stop_sendings(id);
        if id == GroupId::METADATA {
            let askers = self.controller.as_mut().map(super::control::Controller::abdicate);
            for asker in askers.unwrap_or_default() {
                self.tell_asker(asker, Err(Refusal::NotLeader));
            }
            return;
        }
        let Some(group) = self.groups.get_mut(&id) else { return };
        let waiters = group.abdicate();
        let mut streams: Vec<StreamId> = group.streams.keys().copied().collect();
        streams.sort_unstable();
        for waiter in waiters {
            self.refuse_waiter(waiter, Refusal::NotLeader);
        }
        for stream in streams {
            self.leave_stream(stream);
        }
        self.leave_memberships(id);
        if let Some(group) = self.groups.get_mut(&id) {
            group.prepare();
            group.is_prepared = false;
        }
    }

    pub(super) fn leave_stream(&mut self, id: StreamId) {
        self.cancel_consumers(id);
        self.refuse_pulls(id, Refusal::NotLeader);
        let Some(state) = self.stream_mut(id) else { return };
        let watchers = std::mem::take(&mut state.watchers);
        if let Some(subscription) = &mut state.subscription {
            subscription.drop_window();
            subscription.was_consumed = false;
            subscription.is_reading = false;
        }
        for watcher in watchers {
            // It looks again, and is told who does not lead.
            self.tell(watcher.connection, Event::Grown { token: watcher.token });
        }
    }
}
