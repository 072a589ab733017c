//! Seed after seed on several threads. Runs share nothing, so a seed says the same on whatever thread it
//! runs; only how many seeds fit into the time depends on the machine.

use crate::report::{self, Failure, Summary};
use koine_sim::shrink::{class, shrink, Shrink};
use koine_sim::trace::Trace;
use koine_sim::wired::Wired;
use koine_sim::{cluster, run, Coverage, Mark, Options, Violation};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A run that takes longer goes round in circles.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);

/// How long a failing run is made smaller.
const SHRINK_TIME_MAX: Duration = Duration::from_secs(60);

/// With so many seeds every mark must have fired.
const SEEDS_FOR_ALL_MARKS: u64 = 10_000;

/// Which world the seeds are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorldKind {
    /// One node among puppets at the engine's port.
    Node,
    /// One node among clients that speak protocols.
    Wired,
    /// Three or five nodes.
    Cluster,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub from: u64,
    pub time: Duration,
    pub seeds: u64,
    pub jobs: usize,
    pub keep_going: bool,
    pub shrinks: bool,
    pub json: bool,
    pub world: WorldKind,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            from: 0,
            time: Duration::from_secs(60),
            seeds: u64::MAX,
            jobs: 1,
            keep_going: false,
            shrinks: true,
            json: false,
            world: WorldKind::Node,
        }
    }
}

/// A kind of world whose seeds can be run.
pub trait World: Shrink + Send {
    /// The test that replays one seed.
    const REPLAY: &'static str;
    const MARKS: &'static [Mark];

    fn of_seed(seed: u64) -> Self;

    fn run(&self) -> (Result<(), Violation>, Coverage, Trace);
}

impl World for Options {
    const REPLAY: &'static str = "one_seed";
    const MARKS: &'static [Mark] = Mark::NODE;

    fn of_seed(seed: u64) -> Self {
        Options::from_seed(seed)
    }

    fn run(&self) -> (Result<(), Violation>, Coverage, Trace) {
        let report = run(self.clone(), Trace::tail());
        (report.outcome, report.coverage, report.trace)
    }
}

impl World for Wired {
    const REPLAY: &'static str = "one_wired_seed";
    const MARKS: &'static [Mark] = Mark::WIRED;

    fn of_seed(seed: u64) -> Self {
        Wired::from_seed(seed)
    }

    fn run(&self) -> (Result<(), Violation>, Coverage, Trace) {
        self.0.run()
    }
}

impl World for cluster::Options {
    const REPLAY: &'static str = "one_cluster_seed";
    const MARKS: &'static [Mark] = Mark::CLUSTER;

    fn of_seed(seed: u64) -> Self {
        cluster::Options::from_seed(seed)
    }

    fn run(&self) -> (Result<(), Violation>, Coverage, Trace) {
        let report = cluster::run(self.clone(), Trace::tail());
        (report.outcome, report.coverage, report.trace)
    }
}

#[derive(Default)]
struct Progress {
    next: u64,
    done: u64,
    coverage: Coverage,
    /// What each thread runs, and since when.
    running: BTreeMap<usize, (u64, Instant)>,
    /// First of each class, with how often it came.
    failures: BTreeMap<String, (Failure, u64)>,
    stop: bool,
    threads: usize,
}

pub struct Hunt<W> {
    plan: Plan,
    started: Instant,
    /// Guards what the threads share: the next seed, the sums and the failures.
    progress: Mutex<Progress>,
    world: std::marker::PhantomData<fn() -> W>,
}

impl<W: World> Hunt<W> {
    pub fn new(plan: Plan) -> Self {
        let progress = Progress { threads: plan.jobs, ..Progress::default() };
        let (progress, world) = (Mutex::new(progress), std::marker::PhantomData);
        Hunt { plan, started: Instant::now(), progress, world }
    }

    pub fn run(self) -> ExitCode {
        std::thread::scope(|scope| {
            for thread in 0..self.plan.jobs {
                let hunt = &self;
                scope.spawn(move || hunt.work(thread));
            }
            self.watch();
        });
        self.conclude()
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, thread: usize) {
        loop {
            let seed = {
                let progress = &mut *self.lock();
                let is_over = progress.stop
                    || progress.next >= self.plan.seeds
                    || self.started.elapsed() >= self.plan.time;
                if is_over {
                    progress.threads -= 1;
                    return;
                }
                let seed = self.plan.from.wrapping_add(progress.next);
                progress.next += 1;
                progress.running.insert(thread, (seed, Instant::now()));
                seed
            };
            let (outcome, coverage, trace) = W::of_seed(seed).run();
            let progress = &mut *self.lock();
            progress.running.remove(&thread);
            progress.done += 1;
            progress.coverage.add(&coverage);
            if let Err(violation) = outcome {
                progress.stop |= !self.plan.keep_going;
                let class = class(&violation);
                let failure = Failure { seed, violation, trace: trace.text(), shrunk: None };
                progress.failures.entry(class).or_insert((failure, 0)).1 += 1;
            }
        }
    }

    /// Shows how far it got, and ends the process if a run never ends.
    fn watch(&self) {
        let shows = std::io::stderr().is_terminal() && !self.plan.json;
        let mut shown = Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let progress = self.lock();
            if progress.threads == 0 {
                break;
            }
            let stuck = progress.running.values().find(|(_, at)| at.elapsed() > RUN_TIME_MAX);
            if let Some((seed, _)) = stuck {
                println!("seed {seed} has been running for {} s", RUN_TIME_MAX.as_secs());
                println!("{}", report::replay_line(*seed, "", W::REPLAY));
                std::process::exit(1);
            }
            if shows && shown.elapsed() > Duration::from_millis(250) {
                shown = Instant::now();
                let share = self.share_done(&progress);
                eprint!("\r{}", report::bar(share, progress.done, self.started.elapsed()));
                let _ = std::io::stderr().flush();
            }
        }
        if shows {
            eprint!("\r\x1b[K");
        }
    }

    fn share_done(&self, progress: &Progress) -> f64 {
        let time = self.started.elapsed().as_secs_f64() / self.plan.time.as_secs_f64().max(0.001);
        time.max(progress.done as f64 / self.plan.seeds as f64).min(1.0)
    }

    fn conclude(self) -> ExitCode {
        let elapsed = self.started.elapsed();
        let (shrinks, json) = (self.plan.shrinks && !self.plan.keep_going, self.plan.json);
        let progress = self.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut failures: Vec<(Failure, u64)> = progress.failures.into_values().collect();
        if shrinks {
            for (failure, _) in &mut failures {
                if !json {
                    println!("seed {}: {}\nmaking it smaller", failure.seed, failure.violation);
                }
                make_small::<W>(failure);
            }
        }
        let summary = Summary {
            seeds: progress.done,
            elapsed,
            failures,
            coverage: progress.coverage,
            marks: W::MARKS,
            replay: W::REPLAY,
            all_must_fire: progress.done >= SEEDS_FOR_ALL_MARKS,
        };
        match json {
            true => println!("{}", summary.json()),
            false => print!("{}", summary.text()),
        }
        match summary.is_good() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}

fn make_small<W: World>(failure: &mut Failure) {
    let since = Instant::now();
    let shrunk = shrink(
        W::of_seed(failure.seed),
        failure.violation.clone(),
        |options| options.run().0.err(),
        || since.elapsed() < SHRINK_TIME_MAX,
    );
    let (_, _, trace) = shrunk.options.run();
    failure.trace = trace.text();
    failure.shrunk = Some((shrunk.options.text(), shrunk.violation, shrunk.run_count));
}
