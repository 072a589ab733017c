//! Memory pressure: a broker with 512 MiB, page cache included, many connections that push large messages as fast as
//! they can and do not read their answers, and the mixed load beside them. Nobody may be killed for it, nothing
//! acknowledged lost, and service goes on when the crowd is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::stage::Stage;
use super::{kill, Options};
use crate::broker::Process;
use crate::load::bulk::flood;
use crate::report::Row;
use koine_workload::cgroup::MemoryGroup;

const CYCLES: u64 = 3;
const MEMORY_BYTES: u64 = 512 << 20;
const CROWD: usize = 150;
const CROWDED: Duration = Duration::from_secs(10);

pub fn run(options: &Options, row: &mut Row) -> Result<(), String> {
    let cycles = options.cycles(CYCLES);
    let bar = options.progress("memory", cycles);
    let group = MemoryGroup::make(MEMORY_BYTES)?;
    let mut stage = Stage::new(options, &options.directory.join("data"), &kill::ARGUMENTS)?;
    stage.clients.load.expect_refusals();
    stage.start.wrapper = group.wrapper();
    stage.up()?;
    stage.wait_service()?;
    let mut pushed = 0;
    for _ in 0..cycles {
        let before = stage.clients.load.ledger.sums().acknowledged;
        let crowd = Crowd::start(&stage)?;
        std::thread::sleep(CROWDED);
        stage.clients.load.site.relieved();
        pushed += crowd.stop();
        let during = stage.clients.load.ledger.sums().acknowledged - before;
        row.notes
            .push(format!("{during} messages of the mixed load acknowledged beside the crowd"));
        row.cycles += 1;
        row.recovery.push(
            stage
                .wait_service()
                .map_err(|why| format!("{why}; {} killed for memory", group.kills()))?,
        );
        stage.check(row);
        stage.go_on();
        bar.inc(1);
    }
    bar.finish_and_clear();
    row.notes.push(format!(
        "{CROWD} connections pushed {} MiB; peak resident {} MiB, {} killed for memory",
        pushed >> 20,
        stage.process.as_ref().map_or(0, Process::peak_resident_bytes) >> 20,
        group.kills()
    ));
    if group.kills() > 0 {
        row.failures.push("killed for memory".to_owned());
    }
    stage.finish(row)
}

/// Connections that push and do not listen.
struct Crowd {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Crowd {
    fn start(stage: &Stage) -> Result<Crowd, String> {
        let addresses = stage.addresses.clone().ok_or("no addresses")?;
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..CROWD).map(|index| {
            let (over, addresses) = (Arc::clone(&over), addresses.clone());
            std::thread::spawn(move || flood(&addresses, index, &over))
        });
        let threads = threads.collect();
        Ok(Crowd { over, threads })
    }

    /// Bytes that were pushed.
    fn stop(self) -> u64 {
        self.over.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    }
}
