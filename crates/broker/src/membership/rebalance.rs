//! How a group comes to its next generation. A rebalance waits until every member has joined (or its
//! time is over), gives out the generation, waits for the leader's assignment and hands it on.
//! Follows Apache Kafka's classic groups (`GroupMetadataManager`, 4.x).

use super::group::{Context, Group, JoinTimer, Member};
use super::{GroupError, GroupPhase, Join};
use bytes::Bytes;
use koine_base::Moment;
use std::collections::BTreeMap;

impl Group {
    /// A member that is not in the group yet.
    pub(super) fn add_and_rebalance(
        &mut self,
        context: &mut Context<'_>,
        waiter: u64,
        member_id: &str,
        join: &Join,
    ) {
        let mut member = Member::new(join, context.now);
        member.is_new = true;
        if self.phase == GroupPhase::PreparingRebalance && self.previous_phase == GroupPhase::Empty
        {
            self.new_member_added = true;
        }
        self.add(member_id, member, join);
        self.await_join(context, member_id, waiter);
        // It has no id to heartbeat with until the join is answered, and a client that went away
        // meanwhile is not noticed. Its session starts with the answer.
        self.expire_after(context.now, member_id, context.config.new_member_join_timeout_ms);
        self.rebalance_or_complete(context);
    }

    /// A member that is in the group and joins again.
    pub(super) fn update_and_rebalance(
        &mut self,
        context: &mut Context<'_>,
        waiter: u64,
        member_id: &str,
        join: &Join,
    ) {
        self.update(member_id, join);
        self.await_join(context, member_id, waiter);
        self.rebalance_or_complete(context);
    }

    /// A static member is back under a new member id, the old one being fenced from now on.
    pub(super) fn replace_static(
        &mut self,
        context: &mut Context<'_>,
        waiter: u64,
        (old_id, new_id): (&str, &str),
        join: &Join,
    ) {
        let leader_before = self.leader_name();
        let was_leader = self.is_leader(old_id);
        self.dismiss(context, old_id, GroupError::FencedInstanceId);
        let Some(old) = self.remove(old_id) else {
            return;
        };
        let mut member = Member::new(join, context.now);
        member.assignment = old.assignment;
        self.add(new_id, member, join);
        if was_leader {
            self.leader = Some(new_id.to_owned());
        }
        self.heard_from(context.now, new_id);
        match self.phase {
            GroupPhase::Stable if self.select_protocol() == self.protocol_name => {
                // A returning static member disturbs nobody.
                self.learn_topics();
                let mut joined = self.joined(new_id);
                if !join.supports_skipping_assignment {
                    // Told of a leader that is not itself, it will not compute an assignment.
                    joined.leader = leader_before;
                    joined.members = Vec::new();
                } else {
                    joined.skip_assignment = was_leader;
                }
                context.answer_join(waiter, Ok(joined));
            }
            GroupPhase::Stable => {
                self.await_join(context, new_id, waiter);
                self.rebalance_or_complete(context);
            }
            GroupPhase::CompletingRebalance => {
                // The leader may be assigning to the old id right now.
                self.await_join(context, new_id, waiter);
                self.prepare_rebalance(context);
            }
            GroupPhase::PreparingRebalance | GroupPhase::Empty | GroupPhase::Dead => {
                self.await_join(context, new_id, waiter);
                self.complete_join_if_all_joined(context);
            }
        }
    }

    pub(super) fn rebalance_or_complete(&mut self, context: &mut Context<'_>) {
        match self.phase {
            GroupPhase::Empty | GroupPhase::Stable | GroupPhase::CompletingRebalance => {
                self.prepare_rebalance(context);
            }
            GroupPhase::PreparingRebalance => self.complete_join_if_all_joined(context),
            GroupPhase::Dead => {}
        }
    }

    pub(super) fn complete_join_if_all_joined(&mut self, context: &mut Context<'_>) {
        // The first rebalance ends by its timer only: more members are expected.
        let is_initial = self.previous_phase == GroupPhase::Empty;
        if self.phase == GroupPhase::PreparingRebalance && !is_initial && self.all_have_joined() {
            self.complete_join(context);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, context: &mut Context<'_>) {
        if self.phase == GroupPhase::CompletingRebalance {
            self.withdraw_assignment(context);
        }
        self.pending_sync.clear();
        self.sync_deadline = Moment::NEVER;
        let is_initial = self.phase == GroupPhase::Empty;
        self.move_to(GroupPhase::PreparingRebalance);
        if is_initial {
            let delay_ms = context.config.initial_rebalance_delay_ms;
            if delay_ms == 0 {
                self.complete_join(context);
                return;
            }
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
            self.set_join_timer(
                context.now,
                delay_ms,
                JoinTimer::Initial { delay_ms, remaining_ms },
            );
        } else if self.all_have_joined() {
            self.complete_join(context);
        } else {
            self.set_join_timer(context.now, self.rebalance_timeout_ms(), JoinTimer::Rebalance);
        }
    }

    fn set_join_timer(&mut self, now: Moment, wait_ms: u64, timer: JoinTimer) {
        let at = now.after_ms(wait_ms);
        self.join_timer = Some((at, timer));
        self.wake_at(at);
    }

    /// The join timer went off.
    pub(super) fn join_time_is_over(&mut self, context: &mut Context<'_>, timer: JoinTimer) {
        match timer {
            JoinTimer::Initial { delay_ms, remaining_ms }
                if self.new_member_added && remaining_ms > 0 =>
            {
                self.new_member_added = false;
                let next_ms = context.config.initial_rebalance_delay_ms.min(remaining_ms);
                let remaining_ms = remaining_ms.saturating_sub(delay_ms);
                let timer = JoinTimer::Initial { delay_ms: next_ms, remaining_ms };
                self.set_join_timer(context.now, next_ms, timer);
            }
            JoinTimer::Initial { .. } | JoinTimer::Rebalance => self.complete_join(context),
        }
    }

    /// Starts the next generation with the members that have joined. Dynamic members that have not
    /// are out; static ones stay until their session ends.
    fn complete_join(&mut self, context: &mut Context<'_>) {
        self.join_timer = None;
        let is_late = |member: &Member| !member.is_awaiting_join() && member.instance_id.is_none();
        let late: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| is_late(member))
            .map(|(id, _)| id.clone())
            .collect();
        for member_id in late {
            self.remove(&member_id);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members, none of them back yet: wait on until one is or all sessions end.
            self.set_join_timer(
                context.now,
                self.rebalance_timeout_ms().max(1),
                JoinTimer::Rebalance,
            );
            return;
        }
        // Generations count on from 0 after 2^31-1; a negative one would mean "not a member".
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.pending_sync.clear();
        self.new_member_added = false;
        if self.members.is_empty() {
            self.protocol_name.clear();
            self.learn_topics();
            self.move_to(GroupPhase::Empty);
            self.empty_until = context.now.after_ms(context.config.empty_retention_ms);
            self.wake_at(self.empty_until);
            return;
        }
        self.protocol_name = self.select_protocol();
        self.learn_topics();
        self.move_to(GroupPhase::CompletingRebalance);
        let member_ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            if let Some(waiter) = self.take_join_waiter(&member_id) {
                context.answer_join(waiter, Ok(self.joined(&member_id)));
            }
            self.heard_from(context.now, &member_id);
            if let Some(member) = self.members.get_mut(&member_id) {
                member.is_new = false;
            }
            self.pending_sync.insert(member_id);
        }
        self.sync_deadline = context.now.after_ms(self.rebalance_timeout_ms());
        self.wake_at(self.sync_deadline);
    }

    /// Makes sure that the leader is one of those that joined. False if nobody did.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &String| self.members.get(id).is_some_and(Member::is_awaiting_join);
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.keys().find(|id| has_joined(id)).cloned();
        if joined.is_none() {
            return false;
        }
        self.leader = joined;
        true
    }

    /// The leader's assignment arrived: everyone waiting gets its part.
    pub(super) fn assign(&mut self, context: &mut Context<'_>, assignments: &[(String, Bytes)]) {
        let parts: BTreeMap<&str, &Bytes> =
            assignments.iter().map(|(member_id, part)| (member_id.as_str(), part)).collect();
        for (member_id, member) in &mut self.members {
            // Copied: a slice would keep the leader's whole request.
            member.assignment = parts
                .get(member_id.as_str())
                .map_or_else(Bytes::new, |part| Bytes::copy_from_slice(part));
        }
        self.move_to(GroupPhase::Stable);
        let member_ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            if let Some(waiter) = self.take_sync_waiter(&member_id) {
                context.answer_sync(waiter, Ok(self.synced(&member_id)));
                self.heard_from(context.now, &member_id);
            }
        }
    }

    /// Those who wait for an assignment must join again.
    fn withdraw_assignment(&mut self, context: &mut Context<'_>) {
        let member_ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            if let Some(waiter) = self.take_sync_waiter(&member_id) {
                context.answer_sync(waiter, Err(GroupError::RebalanceInProgress));
                self.heard_from(context.now, &member_id);
            }
            if let Some(member) = self.members.get_mut(&member_id) {
                member.assignment = Bytes::new();
            }
        }
    }

    pub(super) fn synced_by(&mut self, member_id: &str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.sync_deadline = Moment::NEVER;
        }
    }

    /// After members are gone.
    pub(super) fn members_left(&mut self, context: &mut Context<'_>) {
        match self.phase {
            GroupPhase::Stable | GroupPhase::CompletingRebalance => self.prepare_rebalance(context),
            GroupPhase::PreparingRebalance => self.complete_join_if_all_joined(context),
            GroupPhase::Empty | GroupPhase::Dead => {}
        }
    }

    /// Acts on every timer that is due.
    pub(super) fn tick(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        if let Some((at, timer)) = self.join_timer {
            if at <= now {
                self.join_timer = None;
                self.join_time_is_over(context, timer);
            }
        }
        if self.sync_deadline <= now {
            self.sync_time_is_over(context);
        }
        let pending_before = self.pending_join.len();
        self.pending_join.retain(|_, until| *until > now);
        let is_due = |member: &Member| member.expires <= now;
        let due: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| is_due(member))
            .map(|(id, _)| id.clone())
            .collect();
        let mut any_gone = false;
        for member_id in due {
            let Some(member) = self.members.get_mut(&member_id) else {
                continue;
            };
            if member.is_excused() {
                // Its session starts anew with the answer that it waits for.
                member.expires = Moment::NEVER;
                continue;
            }
            self.dismiss(context, &member_id, GroupError::UnknownMemberId);
            self.remove(&member_id);
            any_gone = true;
        }
        if any_gone {
            self.members_gone_silent(context);
        } else if self.pending_join.len() < pending_before {
            self.complete_join_if_pending_were_last(context);
        }
        self.wake = self.earliest_timer();
    }

    fn members_gone_silent(&mut self, context: &mut Context<'_>) {
        match self.phase {
            GroupPhase::Stable | GroupPhase::CompletingRebalance => self.prepare_rebalance(context),
            _ => self.complete_join_if_pending_were_last(context),
        }
    }

    /// Unlike a join, the loss of someone may also end the first rebalance early.
    fn complete_join_if_pending_were_last(&mut self, context: &mut Context<'_>) {
        if self.phase == GroupPhase::PreparingRebalance && self.all_have_joined() {
            self.complete_join(context);
        }
    }

    /// Members that took the generation but never asked for their assignment are out.
    fn sync_time_is_over(&mut self, context: &mut Context<'_>) {
        self.sync_deadline = Moment::NEVER;
        let is_after_join =
            matches!(self.phase, GroupPhase::CompletingRebalance | GroupPhase::Stable);
        if !is_after_join || self.pending_sync.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.pending_sync) {
            self.dismiss(context, &member_id, GroupError::UnknownMemberId);
            self.remove(&member_id);
        }
        self.prepare_rebalance(context);
    }
}
