//! Consumer groups that this shard coordinates: membership in memory, committed offsets in the log.

use super::refusals::refused_answer;
use super::Shard;
use crate::group::Waiter;
use crate::mail::Mail;
use crate::pages::Pages;
use koine_base::rng::Rng;
use koine_base::{ConnectionId, GroupId, ShardId};
use koine_broker::membership::{
    Answer, CommitMember, GroupError, GroupListing, GroupPhase, GroupsConfig, Membership,
    Request as GroupRequest,
};
use koine_broker::offsets::{CommittedOffset, Offsets};
use koine_broker::session::{Event, Token};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// What an entry says about committed offsets.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum OffsetsChange {
    Commit {
        group: String,
        offsets: Vec<(String, i32, CommittedOffset)>,
    },
    Delete {
        group: String,
        partitions: Vec<(String, i32)>,
    },
    DeleteGroup {
        group: String,
    },
    /// Deletes those that were not committed again at or after `before`, milliseconds since 1970.
    Expire {
        group: String,
        partitions: Vec<(String, i32)>,
        before: i64,
    },
    /// The topic is gone.
    DeleteTopic {
        topic: String,
    },
}

impl OffsetsChange {
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("encoding to memory cannot fail")
    }

    /// Tells which groups it changes.
    pub fn touch(&self, pages: &mut Pages<String>) {
        match self {
            OffsetsChange::Commit { group, .. }
            | OffsetsChange::Delete { group, .. }
            | OffsetsChange::DeleteGroup { group }
            | OffsetsChange::Expire { group, .. } => pages.touch(group.clone()),
            OffsetsChange::DeleteTopic { .. } => {
                for group in pages.keys() {
                    pages.touch(group);
                }
            }
        }
    }

    pub fn apply(self, all: &mut BTreeMap<String, Offsets>) {
        match self {
            OffsetsChange::Commit { group, offsets } => {
                let of_group = all.entry(group).or_default();
                for (topic, partition, committed) in offsets {
                    of_group.apply(&topic, partition, committed);
                }
            }
            OffsetsChange::Delete { group, partitions } => {
                let Some(of_group) = all.get_mut(&group) else {
                    return;
                };
                for (topic, partition) in partitions {
                    of_group.delete(&topic, partition);
                }
                if of_group.is_empty() {
                    all.remove(&group);
                }
            }
            OffsetsChange::DeleteGroup { group } => {
                all.remove(&group);
            }
            OffsetsChange::Expire { group, mut partitions, before } => {
                let Some(of_group) = all.get(&group) else {
                    return;
                };
                partitions.retain(|(topic, partition)| {
                    let committed = of_group.fetch(topic, *partition);
                    committed.is_some_and(|committed| committed.commit_timestamp < before)
                });
                OffsetsChange::Delete { group, partitions }.apply(all);
            }
            OffsetsChange::DeleteTopic { topic } => all.retain(|_, of_group| {
                of_group.delete_topic(&topic);
                !of_group.is_empty()
            }),
        }
    }
}

/// Who waits for an answer of which coordinator, and what it gets should that one lose its office.
struct Waiting {
    coordinator: GroupId,
    connection: ConnectionId,
    token: Token,
    refused: Answer,
}

/// Who waits for which answer of the memberships.
#[derive(Default)]
pub(super) struct GroupWaits {
    next: u64,
    waiting: HashMap<u64, Waiting>,
    /// Lists of groups being gathered from all shards: answers still open, and what came.
    listings: HashMap<(ConnectionId, Token), (usize, Vec<GroupListing>)>,
}

impl Shard {
    fn coordinator(&self, name: &str) -> GroupId {
        self.metadata.coordinator(name)
    }

    pub(super) fn group_request(
        &mut self,
        from: ConnectionId,
        token: Token,
        request: GroupRequest,
    ) {
        let id = self.coordinator(request.group());
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let waits = &mut self.group_waits;
        let waiter = waits.next;
        waits.next += 1;
        let refused = refused_answer(&request, GroupError::NotCoordinator);
        let waiting = Waiting { coordinator: id, connection: from, token, refused };
        waits.waiting.insert(waiter, waiting);
        if let GroupRequest::Delete { group: name } = &request {
            let name = name.clone();
            return self.delete_group(id, &name, waiter, request);
        }
        let mut answers = Vec::new();
        group.membership.handle(self.now, waiter, request, &mut answers);
        self.tell_answers(id, answers);
    }

    /// A group may be known for its members, its offsets, or both.
    fn delete_group(&mut self, id: GroupId, name: &str, waiter: u64, request: GroupRequest) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let mut answers = Vec::new();
        group.membership.handle(self.now, waiter, request, &mut answers);
        for (_, answer) in &mut answers {
            let has_offsets = group.offsets.contains_key(name);
            if has_offsets && matches!(answer, Answer::Delete(Err(GroupError::GroupIdNotFound))) {
                *answer = Answer::Delete(Ok(()));
            }
            if has_offsets && matches!(answer, Answer::Delete(Ok(()))) {
                let change = OffsetsChange::DeleteGroup { group: name.to_owned() };
                group.commit_offsets(&change.encode());
            }
        }
        self.tell_answers(id, answers);
    }

    fn tell_answers(&mut self, id: GroupId, answers: Vec<(u64, Answer)>) {
        for (waiter, mut answer) in answers {
            let Some(waiting) = self.group_waits.waiting.remove(&waiter) else {
                continue;
            };
            let Waiting { connection: to, token, .. } = waiting;
            if let Answer::Describe(Ok(description)) = &mut answer {
                let offsets = self.groups.get(&id).map(|group| &group.offsets);
                let known = offsets.is_some_and(|all| all.contains_key(&description.group));
                if known && description.phase == GroupPhase::Dead {
                    description.phase = GroupPhase::Empty;
                }
            }
            self.tell(to, Event::Group { token, answer });
        }
    }

    /// Members know only their coordinator: when that changes they join anew.
    pub(super) fn leave_memberships(&mut self, id: GroupId) {
        let seed = self.rng.next_u64();
        let config = self.membership_config();
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.membership = Membership::new(config, Rng::new(seed));
        let waiting = &mut self.group_waits.waiting;
        let of_it = waiting.iter().filter(|(_, waiting)| waiting.coordinator == id);
        let mut numbers: Vec<u64> = of_it.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        let left: Vec<Waiting> =
            numbers.into_iter().filter_map(|number| waiting.remove(&number)).collect();
        for Waiting { connection, token, refused, .. } in left {
            self.tell(connection, Event::Group { token, answer: refused });
        }
    }

    pub(super) fn membership_config(&self) -> GroupsConfig {
        GroupsConfig {
            initial_rebalance_delay_ms: self.config.initial_rebalance_delay_ms,
            ..GroupsConfig::default()
        }
    }

    pub(super) fn tick_memberships(&mut self) {
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in ids {
            let Some(group) = self.groups.get_mut(&id) else {
                continue;
            };
            if group.membership.deadline() > self.now.moment {
                continue;
            }
            let mut answers = Vec::new();
            group.membership.tick(self.now, &mut answers);
            self.tell_answers(id, answers);
        }
    }

    pub(super) fn commit_offsets(
        &mut self,
        from: ConnectionId,
        token: Token,
        name: String,
        member: Option<CommitMember>,
        offsets: Vec<(String, i32, CommittedOffset)>,
    ) {
        let id = self.coordinator(&name);
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        // Also without room on the disk: it is how consumers get on.
        let checked = group.membership.check_commit(self.now, &name, member.as_ref());
        let checked = checked.and_then(|()| self.check_offsets(id, &name, &offsets));
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        match checked {
            Ok(()) => {
                let change = OffsetsChange::Commit { group: name, offsets };
                group.commit_offsets(&change.encode());
                group.wait(Waiter::Committed { connection: from, token });
            }
            Err(error) => self.tell(from, Event::Committed { token, result: Err(error) }),
        }
    }

    pub(super) fn delete_offsets(
        &mut self,
        from: ConnectionId,
        token: Token,
        name: String,
        partitions: Vec<(String, i32)>,
    ) {
        let id = self.coordinator(&name);
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if !group.offsets.contains_key(&name) {
            let result = Err(GroupError::GroupIdNotFound);
            return self.tell(from, Event::Committed { token, result });
        }
        group.commit_offsets(&OffsetsChange::Delete { group: name, partitions }.encode());
        group.wait(Waiter::Committed { connection: from, token });
    }

    pub(super) fn fetch_offsets(
        &mut self,
        from: ConnectionId,
        token: Token,
        name: &str,
        partitions: Option<Vec<(String, i32)>>,
    ) {
        let id = self.coordinator(name);
        let of_group = self.groups.get(&id).and_then(|group| group.offsets.get(name));
        let offsets = match (partitions, of_group) {
            (Some(partitions), of_group) => partitions
                .into_iter()
                .map(|(topic, partition)| {
                    let committed = of_group.and_then(|all| all.fetch(&topic, partition)).cloned();
                    (topic, partition, committed)
                })
                .collect(),
            (None, Some(of_group)) => of_group
                .iter()
                .map(|(topic, partition, committed)| {
                    (topic.to_owned(), partition, Some(committed.clone()))
                })
                .collect(),
            (None, None) => Vec::new(),
        };
        self.tell(from, Event::Offsets { token, result: Ok(offsets) });
    }

    pub(super) fn ask_for_groups(&mut self, from: ConnectionId, token: Token) {
        let shards: Vec<ShardId> = self.config.layout.shards().collect();
        self.group_waits.listings.insert((from, token), (shards.len(), Vec::new()));
        for shard in shards {
            self.post(shard, Mail::ListGroups { from, token });
        }
    }

    pub(super) fn list_own_groups(&mut self, from: ConnectionId, token: Token) {
        let mut groups: Vec<GroupListing> = Vec::new();
        for group in self.groups.values() {
            let members = group.membership.list();
            let only_offsets = group
                .offsets
                .keys()
                .filter(|name| !members.iter().any(|listing| listing.group == **name));
            groups.extend(only_offsets.map(|name| GroupListing {
                group: name.clone(),
                protocol_type: String::new(),
                phase: GroupPhase::Empty,
            }));
            groups.extend(members);
        }
        self.post(from.shard(), Mail::GroupsListed { to: from, token, groups });
    }

    pub(super) fn groups_listed(
        &mut self,
        to: ConnectionId,
        token: Token,
        groups: Vec<GroupListing>,
    ) {
        let Some((open, all)) = self.group_waits.listings.get_mut(&(to, token)) else {
            return;
        };
        *open -= 1;
        all.extend(groups);
        if *open > 0 {
            return;
        }
        let listed = self.group_waits.listings.remove(&(to, token));
        let mut groups = listed.map(|(_, all)| all).unwrap_or_default();
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        self.tell(to, Event::Groups { token, groups });
    }
}
