//! Answers to changes of what is routed where, held back until every shard of this node routes by them:
//! whoever is told that a queue is bound may publish through any shard. Lives with group 0. Waits for
//! mail of shards of the same process alone, never for other nodes, and never for long: a shard that
//! lags delays these answers and nothing else.

use super::control::Asker;
use super::Shard;
use koine_base::Moment;
use koine_broker::metadata::{Command, Outcome, Refusal};
use std::collections::VecDeque;

/// A shard that has not answered for so long is not waited for: its clients wait as well, and whoever
/// asked would give up.
const WAIT_MS_MAX: u64 = 5_000;

pub(super) type Answer = (Asker, Result<Outcome, Refusal>);

/// What was answered, oldest first. No longer than there are askers, each of which has one request at a
/// time under way that blocks its connection or channel.
#[derive(Default)]
pub(super) struct Spreading {
    waiting: VecDeque<Spread>,
    /// Of the last one.
    number: u64,
}

struct Spread {
    number: u64,
    /// Shards that have not applied it.
    missing: usize,
    until: Moment,
    answers: Vec<Answer>,
}

impl Spreading {
    /// What other shards report when they have applied the next change.
    pub fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// `missing` other shards are to report the number given last; then `answers` leave.
    pub fn begin(&mut self, missing: usize, now: Moment, answers: Vec<Answer>) {
        let (number, until) = (self.number, now.after_ms(WAIT_MS_MAX));
        self.waiting.push_back(Spread { number, missing, until, answers });
    }

    /// One more shard has applied it.
    fn applied(&mut self, number: u64) -> Vec<Answer> {
        if let Some(spread) = self.waiting.iter_mut().find(|spread| spread.number == number) {
            spread.missing = spread.missing.saturating_sub(1);
        }
        self.take_while(|spread| spread.missing == 0)
    }

    fn overdue(&mut self, now: Moment) -> Vec<Answer> {
        self.take_while(|spread| spread.until <= now)
    }

    /// Answers leave in the order of the changes: who applied a later one applied the earlier ones.
    fn take_while(&mut self, is_due: impl Fn(&Spread) -> bool) -> Vec<Answer> {
        let mut answers = Vec::new();
        while self.waiting.front().is_some_and(&is_due) {
            answers.extend(self.waiting.pop_front().into_iter().flat_map(|spread| spread.answers));
        }
        answers
    }

    pub fn deadline(&self) -> Moment {
        self.waiting.front().map_or(Moment::NEVER, |spread| spread.until)
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// True for what a publish may be routed by.
pub(super) fn changes_routes(command: &Command) -> bool {
    matches!(
        command,
        Command::CreateTopic { .. }
            | Command::DeleteTopic { .. }
            | Command::AddPartitions { .. }
            | Command::DeclareQueue { .. }
            | Command::DeleteQueue { .. }
            | Command::DeclareExchange { .. }
            | Command::DeleteExchange { .. }
            | Command::Bind { .. }
            | Command::Unbind { .. }
            | Command::Subscribe { .. }
            | Command::Unsubscribe { .. }
            | Command::Access(_)
    )
}

impl Shard {
    /// Another shard of this node has applied the commands with this number.
    pub(super) fn commands_applied(&mut self, number: u64) {
        let Some(controller) = &mut self.controller else { return };
        let answers = controller.spreading.applied(number);
        self.tell_askers(answers);
    }

    pub(super) fn tick_spreading(&mut self) {
        let Some(controller) = &mut self.controller else { return };
        let answers = controller.spreading.overdue(self.now.moment);
        self.tell_askers(answers);
    }

    fn tell_askers(&mut self, answers: Vec<Answer>) {
        for (asker, result) in answers {
            self.tell_asker(asker, result);
        }
    }
}
