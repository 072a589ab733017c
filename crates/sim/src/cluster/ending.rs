//! The end of a run: what is broken is healed, all of it or a majority alone; from then on the cluster has to
//! get on within a bound, and everything that was acknowledged has to be there.

use super::clients::{Action, Question};
use super::Cluster;
use crate::coverage::Mark;
use crate::model::{violation, Checked};
use koine_base::{GroupId, StreamId};
use koine_broker::session::Request;
use koine_cluster::GroupPosition;

/// Time in which a healed cluster has to have leaders.
const LEADERS_US: u64 = 10_000_000;

/// Time in which new voters have to be taken in.
const VOTERS_US: u64 = 30_000_000;

/// Time for one question of the last look, repeats included.
const ANSWER_US: u64 = 10_000_000;

/// Between a refusal and the next try.
const PAUSE_US: u64 = 2_000;

/// A repeat comes after so long.
const REPEAT_US: u64 = 100_000;

/// Acknowledged writes that show that a healed cluster gets on.
const WRITES: u64 = 10;

/// A cluster in which nothing was applied for so long, is at its end. Mail takes less.
const SETTLED_US: u64 = 50_000;

/// Rounds of draining or reading without an end.
const ROUNDS_MAX: usize = 10_000;

impl Cluster {
    pub(super) fn end(&mut self) -> Checked {
        self.heal()?;
        self.require_leaders()?;
        self.require_voters()?;
        self.require_progress()?;
        self.clients_on = false;
        for slot in 0..self.clients.len() {
            for node in 0..self.nodes.len() {
                self.drop_link(slot, node);
            }
        }
        self.look_at_everything()?;
        self.require_agreement()?;
        self.note(|| "the end".to_owned());
        self.count_stats();
        Ok(())
    }

    /// The network is whole, processes go on, nodes that are down start; or a majority alone.
    fn heal(&mut self) -> Checked {
        self.faults_on = false;
        (self.lost, self.doubled) = (0, 0);
        let there = (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_gone);
        let mut order: Vec<usize> = there.collect();
        super::network::shuffle(&mut order, &mut self.faults);
        // In the midst of a change it is not known here of what a majority is needed.
        let count = match self.options.heals_majority_only && !self.has_changed_voters {
            true => order.len() / 2 + 1,
            false => order.len(),
        };
        let mut all: Vec<_> = order.iter().map(|node| self.nodes[*node].id).collect();
        all.sort_unstable();
        self.wanted = all;
        let (healed, lost) = order.split_at(count);
        if !lost.is_empty() {
            self.mark(Mark::MajorityHealed);
        }
        for node in lost {
            self.crash(*node);
            self.nodes[*node].is_gone = true;
        }
        self.note(|| format!("only {healed:?} are healed"));
        self.tasks.retain(|_, task| !matches!(task, super::Task::Heal));
        self.network.only(healed);
        for node in healed.iter().copied() {
            let of = &mut self.nodes[node];
            of.paused_until = 0;
            of.slow_until = 0;
            of.disk.fail_sync(u64::MAX);
            let flips = std::mem::take(&mut of.flips);
            if !flips.is_empty() {
                self.crash(node);
            }
            for (path, position, mask) in flips.into_iter().rev() {
                self.nodes[node].disk.restore(&path, position, mask);
            }
            self.open(node)?;
        }
        Ok(())
    }

    fn require_leaders(&mut self) -> Checked {
        let groups = self.groups();
        let all_led = |cluster: &Cluster| groups.iter().all(|g| cluster.serving(*g).is_some());
        if self.run_while(LEADERS_US, all_led)? {
            return Ok(());
        }
        let missing: Vec<u16> =
            groups.iter().filter(|g| self.serving(**g).is_none()).map(|g| g.0).collect();
        violation(format!(
            "healed for {} s, and groups {missing:?} have no leader",
            LEADERS_US / 1_000_000
        ))
    }

    /// Whoever shall vote votes, those that were wiped and those that were sent away included.
    fn require_voters(&mut self) -> Checked {
        match self.run_while(VOTERS_US, Cluster::has_wanted_voters)? {
            true => Ok(()),
            false => {
                let wanted = self.wanted.clone();
                violation(format!("healed, and {wanted:?} do not come to vote"))
            }
        }
    }

    /// Clients go on for a while: some of what they write has to be acknowledged.
    fn require_progress(&mut self) -> Checked {
        let before = self.history.acked_count;
        let writes = Action::ALL.map(|(action, weight)| match action {
            Action::Disconnect => (action, 0),
            _ => (action, weight),
        });
        self.options.actions = writes.to_vec();
        let gets_on = |cluster: &Cluster| cluster.history.acked_count >= before + WRITES;
        match self.run_while(LEADERS_US, gets_on)? {
            true => Ok(()),
            false => violation("healed, and clients do not get on"),
        }
    }

    fn look_at_everything(&mut self) -> Checked {
        let streams: Vec<(StreamId, bool)> =
            self.history.streams.iter().map(|(id, s)| (*id, s.is_queue())).collect();
        for (stream, is_queue) in streams {
            self.kept.clear();
            match is_queue {
                true => self.drain(stream)?,
                false => self.read_all(stream)?,
            }
            let kept = std::mem::take(&mut self.kept);
            if let Some(history) = self.history.streams.get(&stream) {
                history.close(&kept)?;
            }
        }
        let groups: Vec<_> = self.history.groups.keys().cloned().collect();
        for key in groups {
            self.fetched = None;
            self.insist("a group's offset", |cluster, scout| {
                if cluster.fetched.as_ref() == Some(&key) {
                    return Ok(true);
                }
                cluster.fetch_offset(scout, key.clone())?;
                Ok(false)
            })?;
        }
        let subjects: Vec<String> = self.history.retained.keys().cloned().collect();
        for subject in subjects {
            self.retained_read = None;
            self.insist("what is retained", |cluster, scout| {
                if cluster.retained_read.as_ref() == Some(&subject) {
                    return Ok(true);
                }
                cluster.ask_retained_of(scout, subject.clone())?;
                Ok(false)
            })?;
        }
        Ok(())
    }

    /// Repeats a step of the scout until it says that it is done.
    fn insist(
        &mut self,
        what: &str,
        mut step: impl FnMut(&mut Cluster, usize) -> Result<bool, crate::model::Violation>,
    ) -> Checked {
        let scout = self.scout();
        let until = self.now_us + ANSWER_US;
        while self.now_us < until {
            if step(self, scout)? {
                return Ok(());
            }
            // A refusal may have come at once: time goes on all the same.
            let until = self.now_us + PAUSE_US;
            self.run_until(until)?;
            self.run_while(REPEAT_US, |cluster| cluster.clients[scout].waiting.is_empty())?;
            if !self.clients[scout].waiting.is_empty() {
                for node in 0..self.nodes.len() {
                    self.drop_link(scout, node);
                }
            }
        }
        violation(format!("the last look gets no answer about {what}"))
    }

    fn read_all(&mut self, stream: StreamId) -> Checked {
        for _ in 0..ROUNDS_MAX {
            let next = self.kept.last_key_value().map_or(0, |(last, _)| last + 1);
            self.kept_end = None;
            self.insist("what a topic holds", |cluster, scout| {
                if cluster.kept_end.is_some() {
                    return Ok(true);
                }
                let known = cluster.history.streams.get(&stream);
                let end = known.map_or(0, |known| known.model.records.end);
                cluster.read(scout, stream, next, end)?;
                Ok(false)
            })?;
            let end = self.kept_end.unwrap_or(0);
            let after = self.kept.last_key_value().map_or(0, |(last, _)| last + 1);
            if after >= end {
                return Ok(());
            }
        }
        violation(format!("{stream} cannot be read to its end"))
    }

    /// Consumes everything that is left in a queue.
    fn drain(&mut self, stream: StreamId) -> Checked {
        for _ in 0..ROUNDS_MAX {
            self.status = None;
            self.insist("what is in a queue", |cluster, scout| cluster.drain_step(scout, stream))?;
            if self.status.is_some_and(|status| status.ready == 0 && status.unacked == 0) {
                return Ok(());
            }
        }
        violation(format!("{stream} is never empty"))
    }

    fn drain_step(
        &mut self,
        scout: usize,
        stream: StreamId,
    ) -> Result<bool, crate::model::Violation> {
        let consumers = self.clients[scout].consumers.iter();
        let Some(consumer) =
            consumers.filter(|(_, c)| c.stream == stream).map(|(id, _)| *id).next()
        else {
            self.attach(scout, stream)?;
            return Ok(false);
        };
        self.settle_these(scout, consumer, usize::MAX, true)?;
        if self.status.is_some() {
            return Ok(true);
        }
        let group = Some(stream.group());
        self.ask(scout, group, Question::Status { stream }, |token| Request::Status {
            token,
            stream,
        })?;
        Ok(false)
    }

    /// All replicas come to the same end.
    fn require_agreement(&mut self) -> Checked {
        let groups = self.groups();
        let limit = self.now_us + LEADERS_US;
        loop {
            if self.now_us >= limit || !self.run_while(LEADERS_US, Cluster::is_at_one)? {
                return violation("healed, and replicas do not come to the same end");
            }
            // What clients that are gone had asked for may still be on its way, and mail between shards.
            let ends = self.ends();
            let until = self.now_us + SETTLED_US;
            self.run_until(until)?;
            if self.is_at_one() && self.ends() == ends {
                break;
            }
        }
        self.check_replicas()?;
        for group in groups {
            let shard = self.shard_of(group);
            let up = self.nodes.iter().filter(|node| node.is_up());
            let states: Vec<u64> = up.map(|node| node.shards[shard].fingerprint(group)).collect();
            if states.iter().any(|state| *state != states[0]) {
                return violation(format!("replicas of group {} differ in the end", group.0));
            }
        }
        self.require_streams()
    }

    /// All replicas of each group have applied the same, and nothing is left to apply.
    fn is_at_one(&self) -> bool {
        self.groups().into_iter().all(|group| {
            let positions = self.positions(group);
            let end = positions.first().map(|position| position.last_index);
            positions.iter().all(|p| Some(p.applied_index) == end && Some(p.last_index) == end)
        })
    }

    /// Where the log of each group ends.
    fn ends(&self) -> Vec<u64> {
        let positions = self.groups().into_iter().flat_map(|group| self.positions(group));
        positions.map(|position| position.last_index).collect()
    }

    fn positions(&self, group: GroupId) -> Vec<GroupPosition> {
        let shard = self.shard_of(group);
        let up = self.nodes.iter().filter(|node| node.is_up());
        up.map(|node| node.shards[shard].position(group)).collect()
    }

    /// What was created is there, on every node.
    fn require_streams(&self) -> Checked {
        for node in self.nodes.iter().filter(|node| node.is_up()) {
            for (id, history) in &self.history.streams {
                if node.shards[0].metadata().stream_owner(*id).is_none() {
                    return violation(format!("{} does not know {}", node.id, history.model.name));
                }
            }
        }
        Ok(())
    }

    fn count_stats(&self) {
        for node in self.nodes.iter().filter(|node| node.is_up()) {
            for shard in &node.shards {
                let stats = shard.log_stats();
                for (mark, count) in [
                    (Mark::ReadFromWal, stats.cache_misses_wal),
                    (Mark::ReadFromSegment, stats.cache_misses_segment),
                    (Mark::Checkpointed, stats.checkpoints),
                    (Mark::WalRecycled, stats.wal_files_recycled),
                ] {
                    if count > 0 {
                        self.mark(mark);
                    }
                }
            }
        }
    }
}
