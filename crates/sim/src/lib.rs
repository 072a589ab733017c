//! A deterministic simulator of a node and of a cluster: the shards that `server` runs, on a disk in memory, in virtual
//! time. One seed decides everything that the world decides for a real node: how long each disk
//! request and each piece of mail takes, what clients do, when the power goes and what of the
//! unsynced bytes survives. A model beside it knows what was promised and checks every answer.
//!
//! It must never read a clock, draw from anything but its seed, or look into a shard to decide what
//! is right: it judges by answers alone, as a client would.
//!
//! - [`options`]: what one run is made of, drawn from its seed;
//! - [`cluster`]: several nodes, the network between them, clients that follow the leaders;
//! - [`wired`]: one node among clients of `koine_workload`, which speak protocols;
//! - [`world`]: one node, the scheduler, the faults and the clients;
//! - [`disk`]: a disk that goes wrong without saying so;
//! - [`model`]: what was promised, after Jepsen's `total-queue` and `kafka` checkers;
//! - [`shrink`]: making a failing run small;
//! - [`coverage`]: which faults and situations really came about.

pub mod cluster;
pub mod coverage;
pub mod disk;
pub mod model;
pub mod options;
pub mod shrink;
pub mod trace;
pub mod wired;
pub mod world;

pub use coverage::{Coverage, Mark};
pub use model::Violation;
pub use options::Options;

use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;
use trace::Trace;
use world::World;

/// What came of one run.
pub struct Report {
    pub options: Options,
    pub outcome: Result<(), Violation>,
    pub coverage: Coverage,
    pub trace: Trace,
}

/// One whole life of a node with all its crashes, then a last look at everything it kept. A panic of
/// the node counts as a violation.
pub fn run(options: Options, trace: Trace) -> Report {
    let trace = Rc::new(RefCell::new(trace));
    let coverage = Rc::new(RefCell::new(Coverage::default()));
    let outcome =
        caught(|| World::new(options.clone(), Rc::clone(&trace), Rc::clone(&coverage)).live());
    let (coverage, trace) = (coverage.take(), trace.take());
    Report { options, outcome, coverage, trace }
}

/// A panic as a violation.
fn caught(run: impl FnOnce() -> Result<(), Violation>) -> Result<(), Violation> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation(format!("the node panicked: {}", text.unwrap_or_default())))
    })
}

#[cfg(test)]
mod tests;
