//! What one group makes of a request: who may join and as what, whether a sync fits, who leaves.

use super::group::{Context, Group};
use super::{GroupError, GroupPhase, GroupsConfig, Join, MemberRef, Sync};

impl Group {
    /// Whether there is room for who joins.
    pub(super) fn accepts(&self, config: &GroupsConfig, join: &Join) -> bool {
        let count_max = config.member_count_max;
        let member = self.members.get(&join.member.member_id);
        match self.phase {
            _ if join.member.member_id.is_empty() && self.pending_join.len() >= count_max => false,
            GroupPhase::Empty | GroupPhase::Dead => true,
            // Counts those who wait, not the members: if the limit was lowered, the last ones to
            // rejoin are out.
            GroupPhase::PreparingRebalance => {
                member.is_some_and(|member| member.is_awaiting_join())
                    || self.awaiting_join_count() < count_max
            }
            GroupPhase::CompletingRebalance | GroupPhase::Stable => {
                member.is_some() || self.members.len() < count_max
            }
        }
    }

    pub(super) fn join_new(
        &mut self,
        context: &mut Context<'_>,
        waiter: u64,
        new_id: &str,
        join: &Join,
    ) {
        if let Some(instance_id) = &join.member.instance_id {
            match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace_static(context, waiter, (&old_id, new_id), join),
                None => self.add_and_rebalance(context, waiter, new_id, join),
            }
        } else if join.require_known_member_id {
            let until = context.now.after_ms(u64::from(join.session_timeout_ms));
            self.pending_join.insert(new_id.to_owned(), until);
            self.wake_at(until);
            context.refuse_join(waiter, GroupError::MemberIdRequired, new_id);
        } else {
            self.add_and_rebalance(context, waiter, new_id, join);
        }
    }

    pub(super) fn join_known(&mut self, context: &mut Context<'_>, waiter: u64, join: &Join) {
        let member_id = &join.member.member_id;
        if self.pending_join.contains_key(member_id) && join.member.instance_id.is_none() {
            self.add_and_rebalance(context, waiter, member_id, join);
            return;
        }
        if let Err(error) = self.validate(&join.member) {
            context.refuse_join(waiter, error, member_id);
            return;
        }
        let is_unchanged =
            self.members.get(member_id).is_some_and(|member| member.has_same_protocols(join));
        match self.phase {
            // The answer to its first join may have got lost: it is told again.
            GroupPhase::CompletingRebalance if is_unchanged => {
                context.answer_join(waiter, Ok(self.joined(member_id)));
            }
            GroupPhase::Stable if is_unchanged && !self.is_leader(member_id) => {
                context.answer_join(waiter, Ok(self.joined(member_id)));
            }
            // A leader rejoins to have partitions shared anew, for instance after some were added.
            GroupPhase::PreparingRebalance
            | GroupPhase::CompletingRebalance
            | GroupPhase::Stable => {
                self.update_and_rebalance(context, waiter, member_id, join);
            }
            GroupPhase::Empty | GroupPhase::Dead => {
                context.refuse_join(waiter, GroupError::UnknownMemberId, member_id);
            }
        }
    }

    pub(super) fn check_sync(&self, sync: &Sync) -> Result<(), GroupError> {
        self.validate(&sync.member)?;
        if sync.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let type_differs =
            sync.protocol_type.as_ref().is_some_and(|name| *name != self.protocol_type);
        let name_differs =
            sync.protocol_name.as_ref().is_some_and(|name| *name != self.protocol_name);
        if type_differs || name_differs {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// Takes one member out that asked to leave, or that an administrator names by instance.
    pub(super) fn remove_on_request(
        &mut self,
        context: &mut Context<'_>,
        member: &MemberRef,
    ) -> Result<(), GroupError> {
        let member_id = if member.member_id.is_empty() {
            let by_instance =
                member.instance_id.as_ref().and_then(|instance| self.static_members.get(instance));
            by_instance.cloned().ok_or(GroupError::UnknownMemberId)?
        } else {
            if !self.pending_join.contains_key(&member.member_id) {
                self.validate(member)?;
            }
            member.member_id.clone()
        };
        self.dismiss(context, &member_id, GroupError::UnknownMemberId);
        self.remove(&member_id);
        Ok(())
    }
}
