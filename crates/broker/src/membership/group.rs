//! One consumer group: its members, timers and phase. The steps that move a group from one phase to the
//! next are in `rebalance`; the requests in the parent.

use super::subscription::subscribed_topics;
use super::{Answer, JoinRefused, Joined, Synced};
use super::{GroupError, GroupPhase, GroupsConfig, Join, JoinedMember, MemberRef};
use bytes::Bytes;
use koine_base::Moment;
use std::collections::{BTreeMap, BTreeSet};

/// What every step needs: the time, the settings, and where answers go.
pub(super) struct Context<'a> {
    pub now: Moment,
    pub config: &'a GroupsConfig,
    pub out: &'a mut Vec<(u64, Answer)>,
}

impl Context<'_> {
    pub fn answer_join(&mut self, waiter: u64, answer: Result<Joined, JoinRefused>) {
        self.out.push((waiter, Answer::Join(answer)));
    }

    pub fn refuse_join(&mut self, waiter: u64, error: GroupError, member_id: &str) {
        self.answer_join(waiter, Err(JoinRefused { error, member_id: member_id.to_owned() }));
    }

    pub fn answer_sync(&mut self, waiter: u64, answer: Result<Synced, GroupError>) {
        self.out.push((waiter, Answer::Sync(answer)));
    }
}

#[derive(Debug)]
pub(super) struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: u32,
    pub rebalance_timeout_ms: u32,
    /// In order of preference.
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    awaiting_join: Option<u64>,
    awaiting_sync: Option<u64>,
    /// Its first join is not answered yet, so it does not know its id and cannot heartbeat.
    pub is_new: bool,
    /// When it is taken for dead.
    pub expires: Moment,
}

impl Member {
    pub fn new(join: &Join, now: Moment) -> Self {
        Member {
            instance_id: join.member.instance_id.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: owned_protocols(join),
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            expires: now.after_ms(u64::from(join.session_timeout_ms)),
        }
    }

    pub fn is_awaiting_join(&self) -> bool {
        self.awaiting_join.is_some()
    }

    /// Waiting for the others is as good as a heartbeat, but only a member that knows its id is
    /// expected to come back after an answer got lost.
    pub fn is_excused(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    pub fn has_same_protocols(&self, join: &Join) -> bool {
        self.protocols == join.protocols
    }
}

/// Copies: the request's buffer may be a hundred megabytes and would be kept by a slice of it.
fn owned_protocols(join: &Join) -> Vec<(String, Bytes)> {
    let copy =
        |(name, metadata): &(String, Bytes)| (name.clone(), Bytes::copy_from_slice(metadata));
    join.protocols.iter().map(copy).collect()
}

/// What ends the wait for members to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinTimer {
    /// The first rebalance of an empty group: wait `delay_ms` at a time for more members, as long as
    /// some come and `remaining_ms` last.
    Initial { delay_ms: u64, remaining_ms: u64 },
    /// Members of the previous generation have this long to rejoin.
    Rebalance,
}

#[derive(Debug)]
pub(super) struct Group {
    pub phase: GroupPhase,
    pub previous_phase: GroupPhase,
    pub generation: i32,
    /// Empty until the first member.
    pub protocol_type: String,
    /// Chosen assignor; empty while there is none.
    pub protocol_name: String,
    pub leader: Option<String>,
    pub members: BTreeMap<String, Member>,
    awaiting_join_count: usize,
    /// Instance id to member id.
    pub static_members: BTreeMap<String, String>,
    /// Given an id, not back with it yet; until when.
    pub pending_join: BTreeMap<String, Moment>,
    pub pending_sync: BTreeSet<String>,
    /// How many members support each assignor.
    protocol_counts: BTreeMap<String, usize>,
    pub new_member_added: bool,
    pub join_timer: Option<(Moment, JoinTimer)>,
    pub sync_deadline: Moment,
    /// When an empty group is forgotten.
    pub empty_until: Moment,
    /// No timer of the group is due earlier. May be too early, as heartbeats only move timers back.
    pub wake: Moment,
    /// Topics of all members' subscriptions; `None` if that is not to be known.
    pub topics: Option<BTreeSet<String>>,
}

impl Group {
    pub fn new(context: &Context<'_>) -> Self {
        let empty_until = context.now.after_ms(context.config.empty_retention_ms);
        Group {
            phase: GroupPhase::Empty,
            previous_phase: GroupPhase::Dead,
            generation: 0,
            protocol_type: String::new(),
            protocol_name: String::new(),
            leader: None,
            members: BTreeMap::new(),
            awaiting_join_count: 0,
            static_members: BTreeMap::new(),
            pending_join: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            protocol_counts: BTreeMap::new(),
            new_member_added: false,
            join_timer: None,
            sync_deadline: Moment::NEVER,
            empty_until,
            wake: empty_until,
            topics: None,
        }
    }

    /// Nothing happened to it yet, or it holds nothing any more that a member could come back to.
    pub fn is_blank(&self) -> bool {
        self.phase == GroupPhase::Empty && self.generation == 0 && self.pending_join.is_empty()
    }

    pub fn move_to(&mut self, phase: GroupPhase) {
        self.previous_phase = self.phase;
        self.phase = phase;
    }

    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub fn leader_name(&self) -> String {
        self.leader.clone().unwrap_or_default()
    }

    pub fn awaiting_join_count(&self) -> usize {
        self.awaiting_join_count
    }

    /// The longest that any member asks for.
    pub fn rebalance_timeout_ms(&self) -> u64 {
        self.members
            .values()
            .map(|member| u64::from(member.rebalance_timeout_ms))
            .max()
            .unwrap_or(0)
    }

    pub fn all_have_joined(&self) -> bool {
        self.awaiting_join_count == self.members.len() && self.pending_join.is_empty()
    }

    // ---- timers

    pub fn wake_at(&mut self, at: Moment) {
        self.wake = self.wake.min(at);
    }

    /// The earliest timer, looked up anew.
    pub fn earliest_timer(&self) -> Moment {
        let members = self.members.values().map(|member| member.expires);
        let pending = self.pending_join.values().copied();
        let join = self.join_timer.map_or(Moment::NEVER, |(at, _)| at);
        let empty = if self.phase == GroupPhase::Empty && self.pending_join.is_empty() {
            self.empty_until
        } else {
            Moment::NEVER
        };
        members
            .chain(pending)
            .chain([join, self.sync_deadline, empty])
            .min()
            .unwrap_or(Moment::NEVER)
    }

    pub fn expire_after(&mut self, now: Moment, member_id: &str, timeout_ms: u64) {
        let expires = now.after_ms(timeout_ms);
        if let Some(member) = self.members.get_mut(member_id) {
            member.expires = expires;
            self.wake_at(expires);
        }
    }

    /// The member is alive.
    pub fn heard_from(&mut self, now: Moment, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.expires = now.after_ms(u64::from(member.session_timeout_ms));
            let expires = member.expires;
            self.wake_at(expires);
        }
    }

    // ---- members

    pub fn add(&mut self, member_id: &str, member: Member, join: &Join) {
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type.clone();
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member_id.to_owned());
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.to_owned());
        }
        self.count_protocols(&member.protocols, 1);
        self.pending_join.remove(member_id);
        self.members.insert(member_id.to_owned(), member);
    }

    /// Takes a member, pending or not, out. Whoever it left waiting must have been answered.
    pub fn remove(&mut self, member_id: &str) -> Option<Member> {
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        let removed = self.members.remove(member_id)?;
        self.count_protocols(&removed.protocols, -1);
        if removed.is_awaiting_join() {
            self.awaiting_join_count -= 1;
        }
        if let Some(instance_id) = &removed.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(removed)
    }

    /// Takes over what a member says of itself with each join.
    pub fn update(&mut self, member_id: &str, join: &Join) {
        let Some(mut member) = self.members.remove(member_id) else {
            return;
        };
        self.count_protocols(&member.protocols, -1);
        member.protocols = owned_protocols(join);
        member.session_timeout_ms = join.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        self.count_protocols(&member.protocols, 1);
        self.members.insert(member_id.to_owned(), member);
    }

    fn count_protocols(&mut self, protocols: &[(String, Bytes)], step: isize) {
        // A name given twice by one member counts once.
        let names: BTreeSet<&String> = protocols.iter().map(|(name, _)| name).collect();
        for name in names {
            let count = self.protocol_counts.entry(name.clone()).or_insert(0);
            *count = count.saturating_add_signed(step);
            if *count == 0 {
                self.protocol_counts.remove(name);
            }
        }
    }

    /// Whether a member with these protocols can be in the group.
    pub fn supports(&self, join: &Join) -> bool {
        if self.phase == GroupPhase::Empty {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let by_all = |name: &String| {
            self.protocol_counts.get(name).copied().unwrap_or(0) == self.members.len()
        };
        self.protocol_type == join.protocol_type
            && join.protocols.iter().any(|(name, _)| by_all(name))
    }

    /// The assignor that all support and most prefer.
    pub fn select_protocol(&self) -> String {
        let member_count = self.members.len();
        let is_candidate = |name: &str| self.protocol_counts.get(name) == Some(&member_count);
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member
                .protocols
                .iter()
                .map(|(name, _)| name.as_str())
                .find(|name| is_candidate(name));
            if let Some(name) = vote {
                *votes.entry(name).or_insert(0) += 1;
            }
        }
        // Of equal ones the last by name wins: any will do, but every run must choose the same.
        votes
            .into_iter()
            .max_by_key(|&(_, count)| count)
            .map(|(name, _)| name.to_owned())
            .unwrap_or_default()
    }

    /// Checks that a request comes from a member as the group knows it.
    pub fn validate(&self, member: &MemberRef) -> Result<(), GroupError> {
        if let Some(instance_id) = &member.instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(current) if *current != member.member_id => {
                    return Err(GroupError::FencedInstanceId)
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(&member.member_id) {
            Ok(())
        } else {
            Err(GroupError::UnknownMemberId)
        }
    }

    // ---- waiting and answering

    pub fn await_join(&mut self, context: &mut Context<'_>, member_id: &str, waiter: u64) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        match member.awaiting_join.replace(waiter) {
            // The client repeated its request, most likely on a new connection.
            Some(stale) => context.refuse_join(stale, GroupError::RebalanceInProgress, member_id),
            None => self.awaiting_join_count += 1,
        }
    }

    pub fn await_sync(&mut self, context: &mut Context<'_>, member_id: &str, waiter: u64) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        if let Some(stale) = member.awaiting_sync.replace(waiter) {
            context.answer_sync(stale, Err(GroupError::RebalanceInProgress));
        }
    }

    /// The waiter of a join, which the caller must answer.
    pub fn take_join_waiter(&mut self, member_id: &str) -> Option<u64> {
        let waiter = self.members.get_mut(member_id)?.awaiting_join.take()?;
        self.awaiting_join_count -= 1;
        Some(waiter)
    }

    pub fn take_sync_waiter(&mut self, member_id: &str) -> Option<u64> {
        self.members.get_mut(member_id)?.awaiting_sync.take()
    }

    /// Answers whatever a member waits for before it is removed.
    pub fn dismiss(&mut self, context: &mut Context<'_>, member_id: &str, error: GroupError) {
        if let Some(waiter) = self.take_join_waiter(member_id) {
            context.refuse_join(waiter, error, member_id);
        }
        if let Some(waiter) = self.take_sync_waiter(member_id) {
            context.answer_sync(waiter, Err(error));
        }
    }

    /// What a member is told of the current generation.
    pub fn joined(&self, member_id: &str) -> Joined {
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader_name(),
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members: if self.is_leader(member_id) { self.joined_members() } else { Vec::new() },
        }
    }

    pub fn joined_members(&self) -> Vec<JoinedMember> {
        let describe = |(member_id, member): (&String, &Member)| JoinedMember {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&self.protocol_name),
        };
        self.members.iter().map(describe).collect()
    }

    pub fn synced(&self, member_id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// Looks up what the members of a new generation subscribe to.
    pub fn learn_topics(&mut self) {
        self.topics = subscribed_topics(
            &self.protocol_type,
            self.members.values().map(|member| member.metadata(&self.protocol_name)),
        );
    }
}
