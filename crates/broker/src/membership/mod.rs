//! Consumer-group membership as Apache Kafka's classic groups have it: members join, one of them is
//! leader and assigns, all sync; who falls silent is out and the others share anew.
//!
//! A pure state machine on the node that coordinates the group. An answer may come long after its
//! request: a join waits for the other members, a sync for the leader. Every request is answered
//! exactly once, through `(waiter, Answer)`. Nothing here is durable: after a change of coordinator
//! members are unknown and join again. Committed offsets are apart, in [`crate::offsets`].
//!
//! ```text
//!            first join            all joined, or time is over         leader's sync
//!   Empty ---------------> Preparing -----------------> Completing -------------------> Stable
//!     ^                       | ^  ^                         |                             |
//!     +--- nobody is left ----+ |  +--- join, leave, expiry, late sync --------------------+
//!                               +----------------------------+
//! ```

mod group;
mod rebalance;
mod requests;
mod subscription;
pub mod types;

#[cfg(test)]
mod tests;

pub use types::*;

use group::{Context, Group};
use koine_base::rng::Rng;
use koine_base::{Moment, Now};
use std::collections::{BTreeSet, HashMap};

/// Assignors one member may offer. The Java client's most elaborate set-up has 4.
pub const PROTOCOLS_MAX: usize = 64;

/// Bytes of metadata one member may bring, over all assignors. A subscription to ten thousand
/// topics takes a quarter of it.
pub const METADATA_BYTES_MAX: usize = 1 << 20;

/// Bytes of a client id that become part of a member id.
const CLIENT_ID_BYTES_MAX: usize = 200;

/// Settings of the coordinator, Kafka's names in brackets.
#[derive(Clone, Debug)]
pub struct GroupsConfig {
    /// [`group.min.session.timeout.ms`]
    pub session_timeout_ms_min: u32,
    /// [`group.max.session.timeout.ms`]
    pub session_timeout_ms_max: u32,
    /// How long the first rebalance of an empty group waits for more members
    /// [`group.initial.rebalance.delay.ms`]. 0: not at all.
    pub initial_rebalance_delay_ms: u64,
    /// Members of one group, and as many that were given an id and are not back yet
    /// [`group.max.size`].
    pub member_count_max: usize,
    /// How long a new member's join may wait.
    pub new_member_join_timeout_ms: u64,
    /// How long a group without members is remembered (its offsets are kept apart).
    pub empty_retention_ms: u64,
    /// Groups on this node. Beyond it empty ones are forgotten early, then new ones refused.
    pub group_count_max: usize,
    /// Length of a group's name.
    pub group_name_bytes_max: usize,
}

impl Default for GroupsConfig {
    fn default() -> Self {
        GroupsConfig {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 0,
            member_count_max: 10_000,
            new_member_join_timeout_ms: 300_000,
            empty_retention_ms: 24 * 3_600_000,
            group_count_max: 100_000,
            group_name_bytes_max: 255,
        }
    }
}

/// All groups that this node coordinates.
#[derive(Debug)]
pub struct Membership {
    config: GroupsConfig,
    rng: Rng,
    groups: HashMap<String, Group>,
    /// When each group wants to be looked at, as registered; a group's own `wake` is never later.
    wakes: BTreeSet<(Moment, String)>,
}

impl Membership {
    /// `rng` makes member ids; they must differ between nodes and runs, so seed it well.
    pub fn new(config: GroupsConfig, rng: Rng) -> Self {
        Membership { config, rng, groups: HashMap::new(), wakes: BTreeSet::new() }
    }

    /// The settings may be changed at any time.
    pub fn config_mut(&mut self) -> &mut GroupsConfig {
        &mut self.config
    }

    /// Takes one request. Answers to it and to others that waited for it are appended to `out`.
    pub fn handle(
        &mut self,
        now: Now,
        waiter: u64,
        request: Request,
        out: &mut Vec<(u64, Answer)>,
    ) {
        let now = now.moment;
        match request {
            Request::Join(join) => self.join(now, waiter, join, out),
            Request::Sync(sync) => self.sync(now, waiter, &sync, out),
            Request::Heartbeat { group, member, generation } => {
                let answer = self.heartbeat(now, &group, &member, generation);
                out.push((waiter, Answer::Heartbeat(answer)));
            }
            Request::Leave { group, members } => self.leave(now, waiter, &group, members, out),
            Request::Describe { group } => {
                out.push((waiter, Answer::Describe(Ok(self.describe(group)))));
            }
            Request::Delete { group } => {
                let answer = self.delete(&group);
                out.push((waiter, Answer::Delete(answer)));
            }
        }
    }

    /// When [`Self::tick`] should be called next; earlier does no harm.
    pub fn deadline(&self) -> Moment {
        self.wakes.first().map_or(Moment::NEVER, |(at, _)| *at)
    }

    /// Acts on everything that is due.
    pub fn tick(&mut self, now: Now, out: &mut Vec<(u64, Answer)>) {
        let now = now.moment;
        while self.wakes.first().is_some_and(|(at, _)| *at <= now) {
            let Some((registered, name)) = self.wakes.pop_first() else {
                return;
            };
            let Some(group) = self.groups.get_mut(&name) else {
                continue;
            };
            let mut context = Context { now, config: &self.config, out };
            group.tick(&mut context);
            let is_forgotten = group.phase == GroupPhase::Empty
                && group.pending_join.is_empty()
                && (group.empty_until <= now || group.is_blank());
            if is_forgotten {
                self.groups.remove(&name);
                continue;
            }
            // A timer that is due again at once would spin; the next microsecond is soon enough.
            let next = group.wake.max(Moment(registered.0.max(now.0).saturating_add(1)));
            group.wake = next;
            self.wakes.insert((next, name));
        }
    }

    /// Runs `step` on a group and keeps its registered wake-up true.
    fn with_group<R>(
        &mut self,
        now: Moment,
        name: &str,
        out: &mut Vec<(u64, Answer)>,
        step: impl FnOnce(&mut Group, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(name)?;
        let wake_before = group.wake;
        let mut context = Context { now, config: &self.config, out };
        let result = step(group, &mut context);
        if group.wake < wake_before {
            self.wakes.remove(&(wake_before, name.to_owned()));
            self.wakes.insert((group.wake, name.to_owned()));
        }
        if group.is_blank() {
            self.forget(name);
        }
        Some(result)
    }

    fn forget(&mut self, name: &str) {
        if let Some(group) = self.groups.remove(name) {
            self.wakes.remove(&(group.wake, name.to_owned()));
        }
    }

    // ---- join

    fn join(&mut self, now: Moment, waiter: u64, join: Join, out: &mut Vec<(u64, Answer)>) {
        if let Err(error) = self.check_join(&join).and_then(|()| self.make_room(now, &join, out)) {
            let member_id = join.member.member_id;
            out.push((waiter, Answer::Join(Err(JoinRefused { error, member_id }))));
            return;
        }
        let new_member_id = self.new_member_id(&join);
        self.with_group(now, &join.group, out, |group, context| {
            if !group.accepts(context.config, &join) {
                let member_id = &join.member.member_id;
                group.dismiss(context, member_id, GroupError::GroupMaxSizeReached);
                group.remove(member_id);
                context.refuse_join(waiter, GroupError::GroupMaxSizeReached, member_id);
            } else if !group.supports(&join) {
                context.refuse_join(
                    waiter,
                    GroupError::InconsistentGroupProtocol,
                    &join.member.member_id,
                );
            } else if join.member.member_id.is_empty() {
                group.join_new(context, waiter, &new_member_id, &join);
            } else {
                group.join_known(context, waiter, &join);
            }
        });
    }

    fn check_join(&self, join: &Join) -> Result<(), GroupError> {
        self.check_name(&join.group)?;
        let session = self.config.session_timeout_ms_min..=self.config.session_timeout_ms_max;
        if !session.contains(&join.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let metadata_bytes: usize =
            join.protocols.iter().map(|(name, metadata)| name.len() + metadata.len()).sum();
        if join.protocols.len() > PROTOCOLS_MAX || metadata_bytes > METADATA_BYTES_MAX {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn check_name(&self, group: &str) -> Result<(), GroupError> {
        if group.is_empty() || group.len() > self.config.group_name_bytes_max {
            return Err(GroupError::InvalidGroupId);
        }
        Ok(())
    }

    /// Makes the group that a first join asks for.
    fn make_room(
        &mut self,
        now: Moment,
        join: &Join,
        out: &mut Vec<(u64, Answer)>,
    ) -> Result<(), GroupError> {
        if self.groups.contains_key(&join.group) {
            return Ok(());
        }
        if !join.member.member_id.is_empty() {
            return Err(GroupError::UnknownMemberId);
        }
        if self.groups.len() >= self.config.group_count_max {
            let is_idle =
                |group: &Group| group.phase == GroupPhase::Empty && group.pending_join.is_empty();
            let idle = self.groups.iter().filter(|(_, group)| is_idle(group));
            let longest = idle
                .min_by_key(|(name, group)| (group.empty_until, *name))
                .map(|(name, _)| name.clone());
            let longest = longest.ok_or(GroupError::CoordinatorNotAvailable)?;
            self.forget(&longest);
        }
        let group = Group::new(&Context { now, config: &self.config, out });
        self.wakes.insert((group.wake, join.group.clone()));
        self.groups.insert(join.group.clone(), group);
        Ok(())
    }

    /// Instance or client id, then 128 random bits in the form of a UUID.
    fn new_member_id(&mut self, join: &Join) -> String {
        let name = join.member.instance_id.as_deref().unwrap_or(&join.client_id);
        let mut end = name.len().min(CLIENT_ID_BYTES_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let (high, low) = (self.rng.next_u64(), self.rng.next_u64());
        format!(
            "{}-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            &name[..end],
            high >> 32,
            high >> 16 & 0xFFFF,
            high & 0xFFFF,
            low >> 48,
            low & 0xFFFF_FFFF_FFFF
        )
    }

    // ---- the other requests

    fn sync(&mut self, now: Moment, waiter: u64, sync: &Sync, out: &mut Vec<(u64, Answer)>) {
        let checked = self.check_name(&sync.group);
        let checked = checked.and_then(|()| {
            let group = self.groups.get(&sync.group).ok_or(GroupError::UnknownMemberId)?;
            group.check_sync(sync)
        });
        if let Err(error) = checked {
            out.push((waiter, Answer::Sync(Err(error))));
            return;
        }
        self.with_group(now, &sync.group, out, |group, context| {
            let member_id = &sync.member.member_id;
            match group.phase {
                GroupPhase::CompletingRebalance => {
                    group.await_sync(context, member_id, waiter);
                    group.synced_by(member_id);
                    if group.is_leader(member_id) {
                        group.assign(context, &sync.assignments);
                    }
                }
                GroupPhase::Stable => {
                    group.synced_by(member_id);
                    context.answer_sync(waiter, Ok(group.synced(member_id)));
                }
                GroupPhase::PreparingRebalance => {
                    context.answer_sync(waiter, Err(GroupError::RebalanceInProgress));
                }
                GroupPhase::Empty | GroupPhase::Dead => {
                    context.answer_sync(waiter, Err(GroupError::UnknownMemberId));
                }
            }
        });
    }

    fn heartbeat(
        &mut self,
        now: Moment,
        group: &str,
        member: &MemberRef,
        generation: i32,
    ) -> Result<(), GroupError> {
        self.check_name(group)?;
        let beat = |group: &mut Group, context: &mut Context<'_>| {
            group.validate(member)?;
            if generation != group.generation {
                return Err(GroupError::IllegalGeneration);
            }
            group.heard_from(context.now, &member.member_id);
            match group.phase {
                GroupPhase::PreparingRebalance => Err(GroupError::RebalanceInProgress),
                _ => Ok(()),
            }
        };
        // A heartbeat answers nobody else.
        self.with_group(now, group, &mut Vec::new(), beat)
            .unwrap_or(Err(GroupError::UnknownMemberId))
    }

    fn leave(
        &mut self,
        now: Moment,
        waiter: u64,
        name: &str,
        members: Vec<MemberRef>,
        out: &mut Vec<(u64, Answer)>,
    ) {
        if let Err(error) = self.check_name(name) {
            out.push((waiter, Answer::Leave(Err(error))));
            return;
        }
        if !self.groups.contains_key(name) {
            let left = members.into_iter().map(|member| (member, Err(GroupError::UnknownMemberId)));
            out.push((waiter, Answer::Leave(Ok(left.collect()))));
            return;
        }
        self.with_group(now, name, out, |group, context| {
            let mut left: Vec<LeftMember> = Vec::with_capacity(members.len());
            for member in members {
                let result = group.remove_on_request(context, &member);
                left.push((member, result));
            }
            let any_left = left.iter().any(|(_, result)| result.is_ok());
            context.out.push((waiter, Answer::Leave(Ok(left))));
            if any_left {
                group.members_left(context);
            }
        });
    }

    fn describe(&self, name: String) -> GroupDescription {
        let Some(group) = self.groups.get(&name) else {
            return GroupDescription {
                group: name,
                phase: GroupPhase::Dead,
                protocol_type: String::new(),
                protocol_name: String::new(),
                members: Vec::new(),
            };
        };
        let is_stable = group.phase == GroupPhase::Stable;
        let members = group.members.iter().map(|(member_id, member)| MemberDescription {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            // Between generations there is neither a common assignor nor an assignment.
            metadata: if is_stable {
                member.metadata(&group.protocol_name)
            } else {
                Default::default()
            },
            assignment: if is_stable { member.assignment.clone() } else { Default::default() },
        });
        GroupDescription {
            phase: group.phase,
            protocol_type: group.protocol_type.clone(),
            protocol_name: if is_stable { group.protocol_name.clone() } else { String::new() },
            members: members.collect(),
            group: name,
        }
    }

    /// A group that is known by its offsets only is not found here.
    fn delete(&mut self, name: &str) -> Result<(), GroupError> {
        match self.groups.get(name).map(|group| group.phase) {
            None => Err(GroupError::GroupIdNotFound),
            Some(GroupPhase::Empty) => {
                self.forget(name);
                Ok(())
            }
            Some(_) => Err(GroupError::NonEmptyGroup),
        }
    }

    /// All groups, in no order.
    pub fn list(&self) -> Vec<GroupListing> {
        let line = |(name, group): (&String, &Group)| GroupListing {
            group: name.clone(),
            protocol_type: group.protocol_type.clone(),
            phase: group.phase,
        };
        self.groups.iter().map(line).collect()
    }

    /// Whether a group has members or expects some, so that it cannot be deleted.
    pub fn is_in_use(&self, group: &str) -> bool {
        self.groups.get(group).is_some_and(|group| group.phase != GroupPhase::Empty)
    }

    /// `None` if the group is not known here: it has no members.
    pub fn phase(&self, group: &str) -> Option<GroupPhase> {
        self.groups.get(group).map(|group| group.phase)
    }

    // ---- offsets

    /// Whether an offset commit may be taken. One of a member counts as its heartbeat. `None`, or a
    /// generation below 0 without ids, is a consumer outside of group management.
    pub fn check_commit(
        &mut self,
        now: Now,
        group: &str,
        member: Option<&CommitMember>,
    ) -> Result<(), GroupError> {
        let outsider = CommitMember { member: MemberRef::default(), generation: -1 };
        let commit = member.unwrap_or(&outsider);
        let check = |group: &mut Group, context: &mut Context<'_>| {
            if commit.generation < 0 && group.phase == GroupPhase::Empty {
                return Ok(());
            }
            group.validate(&commit.member)?;
            if commit.generation != group.generation {
                return Err(GroupError::IllegalGeneration);
            }
            if group.phase == GroupPhase::CompletingRebalance {
                return Err(GroupError::RebalanceInProgress);
            }
            group.heard_from(context.now, &commit.member.member_id);
            Ok(())
        };
        match self.with_group(now.moment, group, &mut Vec::new(), check) {
            Some(result) => result,
            None if commit.generation < 0 => Ok(()),
            None => Err(GroupError::IllegalGeneration),
        }
    }

    /// Whether the group's offsets of `topic` may be deleted. A group not known here has no members.
    pub fn check_delete_offsets(&self, group: &str, topic: &str) -> Result<(), GroupError> {
        let Some(group) = self.groups.get(group).filter(|group| group.phase != GroupPhase::Empty)
        else {
            return Ok(());
        };
        if group.protocol_type != subscription::CONSUMER {
            return Err(GroupError::NonEmptyGroup);
        }
        match &group.topics {
            Some(topics) if !topics.contains(topic) => Ok(()),
            _ => Err(GroupError::GroupSubscribedToTopic),
        }
    }

    /// Whether offsets of `topic` must not expire because members of the group may read it.
    pub fn is_subscribed(&self, group: &str, topic: &str) -> bool {
        self.check_delete_offsets(group, topic).is_err()
    }
}
