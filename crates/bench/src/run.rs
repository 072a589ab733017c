//! One run from set-up to clean-up: opens the connections, spreads them over threads, takes figures
//! at the window's edges, and waits for what is still under way.

use crate::clock::{nanos, seconds, Clock, Nanos, Window};
use crate::drive::{Assigned, Drive};
use crate::failure::Failure;
use crate::plan::{Mode, Plan, ProtocolName};
use crate::progress::Progress;
use crate::protocol::Protocol;
use crate::shared::Shared;
use crate::tally::{Tally, Totals};
use koine_workload::usage::{machine_cpu_seconds, Usage};
use std::thread;
use std::time::Duration;

/// Time for all threads to start before the first message.
const START: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(50);
/// Longest wait for what is under way, however steadily it comes.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// All that is read at one edge of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    at: Nanos,
    totals: Totals,
    broker: Usage,
    own: Usage,
    machine_cpu_seconds: f64,
}

/// What happened inside the window, and what had come of it at the end.
pub struct Outcome {
    pub seconds: f64,
    pub within: Totals,
    pub broker_cpu_seconds: f64,
    pub broker: Usage,
    pub broker_written_bytes: u64,
    pub own_cpu_seconds: f64,
    /// CPU seconds of neither broker nor generator: what disturbed the run, and the kernel.
    pub other_cpu_seconds: f64,
    pub tally: Tally,
    pub missing: u64,
    pub promise: String,
}

impl Outcome {
    pub fn is_clean(&self) -> bool {
        let faults = &self.tally.faults;
        let wrong = faults.duplicated + faults.reordered + faults.damaged + faults.refused;
        self.missing + wrong == 0
    }
}

pub fn run(plan: &Plan, protocol: &mut dyn Protocol) -> Result<Outcome, Failure> {
    raise_file_limit(plan);
    protocol.prepare(plan)?;
    let result = run_prepared(plan, protocol);
    if !plan.keep {
        // The run's own failure matters more than that of tidying up after it.
        match (protocol.clean_up(plan), &result) {
            (Err(failure), Ok(_)) => return Err(failure),
            (_, _) => return result,
        }
    }
    result
}

fn run_prepared(plan: &Plan, protocol: &dyn Protocol) -> Result<Outcome, Failure> {
    let clock = Clock::start();
    if plan.mode == Mode::Consume && plan.backlog > 0 {
        let mut filling = plan.clone();
        filling.mode = Mode::Produce;
        filling.consumers = 0;
        filling.producers = plan.producers.max(1);
        filling.rate = None;
        Course::new(&filling, clock, protocol)?.run(Some(plan.backlog))?;
    }
    let mut plan = plan.clone();
    if plan.mode == Mode::Consume {
        plan.producers = 0;
    }
    if plan.mode == Mode::Consume || plan.messages.is_some() {
        plan.warmup = Duration::ZERO;
    }
    let limit = plan.messages.filter(|_| plan.mode == Mode::Produce);
    Course::new(&plan, clock, protocol)?.run(limit)
}

/// One set of threads from start to end.
struct Course<'a> {
    plan: &'a Plan,
    clock: Clock,
    protocol: &'a dyn Protocol,
    shared: Shared,
    threads: Vec<Vec<Assigned>>,
}

impl<'a> Course<'a> {
    /// Opens the consumers, then the producers.
    fn new(plan: &'a Plan, clock: Clock, protocol: &'a dyn Protocol) -> Result<Self, Failure> {
        let mut threads: Vec<Vec<Assigned>> = (0..plan.threads).map(|_| Vec::new()).collect();
        let progress = Progress::opening(plan);
        for index in 0..plan.consumers {
            let opened = protocol.consumer(plan, index)?;
            let thread = (plan.producers + index) % plan.threads;
            threads[thread].push(Assigned { opened, producer: None });
            progress.opened();
        }
        for index in 0..plan.producers {
            let opened = protocol.producer(plan, index)?;
            threads[index % plan.threads].push(Assigned { opened, producer: Some(index) });
            progress.opened();
        }
        let shared = Shared::new(plan.threads)?;
        Ok(Course { plan, clock, protocol, shared, threads })
    }

    /// With a `limit` the run ends when so many messages are sent and acknowledged.
    fn run(mut self, limit: Option<u64>) -> Result<Outcome, Failure> {
        let origin = self.clock.now() + nanos(START);
        let start = origin + nanos(self.plan.warmup);
        let end = match limit {
            Some(_) => Nanos::MAX,
            None => start + nanos(self.plan.duration),
        };
        let window = Window { origin, start, end };
        let each = limit.map_or(u64::MAX, |limit| limit.div_ceil(self.plan.producers as u64));
        let assigned = std::mem::take(&mut self.threads);
        thread::scope(|scope| {
            let mut handles = Vec::new();
            for (thread, assigned) in assigned.into_iter().enumerate() {
                let (plan, clock, shared) = (self.plan, self.clock, &self.shared);
                handles.push(scope.spawn(move || {
                    Drive::new(plan, clock, window, shared, thread, assigned, each)
                        .inspect_err(|_| shared.fail())?
                        .run()
                }));
            }
            let readings = self.watch(window, limit);
            self.shared.stop();
            let results = handles.into_iter().map(|handle| {
                handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            let tally = merge(results, window)?;
            Ok(self.outcome(readings, tally))
        })
    }

    /// Sleeps through the run and takes the readings at the window's edges.
    fn watch(&self, window: Window, limit: Option<u64>) -> (Reading, Reading) {
        let progress = Progress::running(self.plan, window, limit);
        self.sleep_until(window.start, &progress, limit);
        let first = self.reading();
        self.sleep_until(window.end, &progress, limit);
        let last = self.reading();
        if self.plan.mode != Mode::Consume {
            self.drain(&progress);
        }
        progress.finish();
        (first, last)
    }

    fn sleep_until(&self, moment: Nanos, progress: &Progress, limit: Option<u64>) {
        loop {
            let now = self.clock.now();
            if now >= moment || self.shared.failed() || self.is_all_done(limit) {
                return;
            }
            thread::sleep(Duration::from_nanos(moment - now).min(TICK));
            progress.show(now, self.shared.totals());
        }
    }

    fn is_all_done(&self, limit: Option<u64>) -> bool {
        let totals = self.shared.totals();
        match limit {
            Some(limit) => totals.sent >= limit && !self.acknowledgements_wanting(totals),
            None if self.plan.messages.is_some() => {
                self.plan.messages.is_some_and(|messages| totals.delivered >= messages)
            }
            // A log can be read again and again, a queue only once.
            None => {
                self.plan.mode == Mode::Consume
                    && self.plan.protocol != ProtocolName::Kafka
                    && self.plan.backlog > 0
                    && totals.delivered >= self.plan.backlog
            }
        }
    }

    fn acknowledgements_wanting(&self, totals: Totals) -> bool {
        self.plan.window > 0 && totals.acknowledged < totals.sent
    }

    /// Waits for acknowledgements and deliveries until none has come for the plan's `drain` time.
    fn drain(&self, progress: &Progress) {
        let begun = self.clock.now();
        let mut before = self.shared.totals();
        let mut moved = begun;
        loop {
            let now = self.clock.now();
            let totals = self.shared.totals();
            let done = self.plan.standing || totals.delivered >= totals.expected;
            let settled = done && !self.acknowledgements_wanting(totals);
            // Producers notice the end a little later than this thread.
            if settled && now - begun > nanos(TICK) || self.shared.failed() {
                return;
            }
            if totals != before {
                (before, moved) = (totals, now);
            }
            if now - moved > nanos(self.plan.drain) || now - begun > nanos(DRAIN_MAX) {
                return;
            }
            progress.show(now, totals);
            thread::sleep(TICK);
        }
    }

    fn reading(&self) -> Reading {
        Reading {
            at: self.clock.now(),
            totals: self.shared.totals(),
            broker: Usage::of(&self.plan.pids),
            own: Usage::own(),
            machine_cpu_seconds: machine_cpu_seconds(),
        }
    }

    fn outcome(&self, (first, last): (Reading, Reading), tally: Tally) -> Outcome {
        // A drained queue ends the window with its last delivery.
        let drained = self.plan.mode == Mode::Consume && tally.last_delivery < last.at;
        let end = if drained { tally.last_delivery.max(first.at + 1) } else { last.at };
        let broker_cpu_seconds = last.broker.cpu_seconds - first.broker.cpu_seconds;
        let own_cpu_seconds = last.own.cpu_seconds - first.own.cpu_seconds;
        let machine = last.machine_cpu_seconds - first.machine_cpu_seconds;
        let unacknowledged = match self.plan.window {
            0 => 0,
            _ => tally.totals.sent - tally.totals.acknowledged.min(tally.totals.sent),
        };
        let distinct = tally.totals.delivered.saturating_sub(tally.faults.duplicated);
        Outcome {
            seconds: seconds(end - first.at),
            within: last.totals.since(first.totals),
            broker_cpu_seconds,
            broker: last.broker,
            broker_written_bytes: last.broker.written_bytes - first.broker.written_bytes,
            own_cpu_seconds,
            other_cpu_seconds: (machine - broker_cpu_seconds - own_cpu_seconds).max(0.0),
            missing: match self.plan.mode {
                Mode::Consume => {
                    let wanted = self.plan.messages.unwrap_or(0);
                    wanted.saturating_sub(tally.totals.delivered)
                }
                _ if self.plan.standing => unacknowledged,
                _ => tally.totals.expected.saturating_sub(distinct).max(unacknowledged),
            },
            tally,
            promise: self.protocol.promise(self.plan),
        }
    }
}

/// Merges what the threads counted; the failure that came first wins.
fn merge(
    results: impl Iterator<Item = Result<Tally, Failure>>,
    window: Window,
) -> Result<Tally, Failure> {
    let mut tally = Tally::new(window);
    let mut failure = None;
    for result in results {
        match result {
            Ok(one) => tally.absorb(&one),
            Err(Failure::Stopped) => {}
            Err(other) => failure = failure.or(Some(other)),
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok(tally),
    }
}

/// Each connection is a file; what the system does not grant shows as an error when connecting.
pub fn raise_file_limit(plan: &Plan) {
    use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
    let wanted = (plan.producers + plan.consumers + 100) as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        let _ =
            setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    }
}
