//! A full file system: publishers get their protocol's signal or wait, consumers go on, nothing acknowledged is lost,
//! and service returns by itself when there is space again. Also a start on a full file system says so.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use super::stage::Stage;
use super::Options;
use crate::load::PAUSE;
use crate::report::Row;
use crate::volume::Volume;

const CYCLES: u64 = 5;
const VOLUME_BYTES: u64 = 1 << 30;
const ARGUMENTS: [&str; 4] = ["--storage-wal-file", "4MiB", "--shards", "2"];
/// Nothing was acknowledged for so long: the disk is full.
const STALLED: Duration = Duration::from_secs(4);
const FILL_LIMIT: Duration = Duration::from_secs(120);
/// How long the disk stays full with clients knocking.
const FULL: Duration = Duration::from_secs(5);
const START_LIMIT: Duration = Duration::from_secs(20);

pub fn run(options: &Options, row: &mut Row) -> Result<(), String> {
    let cycles = options.cycles(CYCLES);
    let bar = options.progress("full", cycles);
    std::fs::create_dir_all(&options.directory).map_err(|error| error.to_string())?;
    let volume = Volume::make(&options.directory, VOLUME_BYTES)?;
    let ballast = volume.path().join("ballast");
    let mut stage = Stage::new(options, &volume.path().join("data"), &ARGUMENTS)?;
    stage.clients.load.expect_refusals();
    stage.up()?;
    stage.wait_service()?;
    for _ in 0..cycles {
        std::thread::sleep(Duration::from_secs(1));
        fill(&ballast)?;
        until_stalled(&mut stage)?;
        check_consumers(&stage, row);
        std::thread::sleep(FULL);
        std::fs::remove_file(&ballast).map_err(|error| error.to_string())?;
        stage.clients.load.site.relieved();
        row.cycles += 1;
        row.recovery.push(stage.wait_service()?);
        if !stage.check_and_go_on(row) {
            break;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if row.passed() {
        start_on_full(&mut stage, &ballast, row)?;
    }
    stage.finish(row)
}

/// Takes all the space there is.
pub fn fill(ballast: &std::path::Path) -> Result<(), String> {
    let mut file = File::create(ballast).map_err(|error| error.to_string())?;
    for size in [1 << 20, 4096] {
        let piece = vec![0xB5; size];
        while file.write_all(&piece).is_ok() {}
    }
    // What did not fit is what is wanted.
    let _ = file.sync_all();
    Ok(())
}

/// Waits until at least one protocol gets no acknowledgement any more. The broker has to live.
fn until_stalled(stage: &mut Stage) -> Result<(), String> {
    let start = Instant::now();
    let (mut counts, mut moved) = ([0; 3], [Instant::now(); 3]);
    while moved.iter().any(|moved| moved.elapsed() < STALLED) {
        if !stage.process.as_mut().is_some_and(crate::broker::Process::is_running) {
            return Err("the broker ended because the disk was full".to_owned());
        }
        if start.elapsed() > FILL_LIMIT {
            return Err("the disk is full and publishers go on".to_owned());
        }
        let now = stage.clients.load.ledger.acknowledged_by_protocol();
        for (index, count) in now.into_iter().enumerate() {
            if count != counts[index] {
                (counts[index], moved[index]) = (count, Instant::now());
            }
        }
        std::thread::sleep(20 * PAUSE);
    }
    Ok(())
}

/// All that was acknowledged can be read while the disk is full.
fn check_consumers(stage: &Stage, row: &mut Row) {
    let start = Instant::now();
    loop {
        let sums = stage.clients.load.ledger.sums();
        if sums.lost == 0 {
            return;
        }
        if start.elapsed() > Duration::from_secs(10) {
            row.failures.push(format!(
                "{} acknowledged messages cannot be read while the disk is full",
                sums.lost
            ));
            return;
        }
        std::thread::sleep(20 * PAUSE);
    }
}

/// With no space left a start says what is wrong, or serves; when there is space again a start serves.
fn start_on_full(
    stage: &mut Stage,
    ballast: &std::path::Path,
    row: &mut Row,
) -> Result<(), String> {
    stage.kill();
    fill(ballast)?;
    stage.spawn()?;
    let process = stage.process.as_mut().ok_or("no process")?;
    match process.wait_ready(START_LIMIT) {
        Ok(_) => row.notes.push("a start on a full disk serves".to_owned()),
        Err(why) if why.contains("space") || why.contains("full") => {
            row.notes.push(format!("a start on a full disk says: {why}"));
        }
        Err(why) => row.failures.push(format!("a start on a full disk does not say so: {why}")),
    }
    stage.kill();
    std::fs::remove_file(ballast).map_err(|error| error.to_string())?;
    stage.up()?;
    row.recovery.push(stage.wait_service()?);
    Ok(())
}
