//! The wall clock jumps under load, hours ahead and back, and across restarts. Nothing may be lost, no session or offset
//! go back, and every protocol goes on at once: what has to last does not hang on what time it is.
//!
//! A library that is loaded before the C library moves the clock of the broker alone; the machine's stays.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::stage::Stage;
use super::{kill, Options};
use crate::broker::{find, run as run_program};
use crate::report::Row;

const CYCLES: u64 = 20;
const SOURCE: &str = include_str!("clock.c");
const LIFE_MIN: Duration = Duration::from_millis(100);
const LIFE_MAX: Duration = Duration::from_millis(1_500);
/// Everything is checked each so many cycles.
const CHECK_EVERY: u64 = 5;
/// How far the clock is behind at most: beyond an hour Kafka's producers are told that their time stamps are of the future.
const BEHIND_SECONDS_MAX: u64 = 50 * 60;
/// And ahead; with the other below the day after which the load's MQTT sessions end.
const AHEAD_SECONDS_MAX: u64 = 22 * 3600;

pub fn missing() -> Option<String> {
    find("cc").is_none().then(|| "a C compiler called cc (Debian: gcc)".to_owned())
}

/// The clock that the broker sees.
struct Clock {
    offset: File,
}

impl Clock {
    fn set(&self, seconds: i64) -> Result<(), String> {
        let failed = |error| format!("the clock's file: {error}");
        self.offset.write_all_at(&seconds.to_ne_bytes(), 0).map_err(failed)
    }
}

/// Builds the library and lets the next start of the broker take it.
fn prepare(stage: &mut Stage, options: &Options) -> Result<Clock, String> {
    let at = |name: &str| options.directory.join(name);
    let text = |name: &str| at(name).to_string_lossy().into_owned();
    std::fs::write(at("clock.c"), SOURCE).map_err(|error| format!("clock.c: {error}"))?;
    run_program("cc", &["-shared", "-fPIC", "-O1", "-o", &text("clock.so"), &text("clock.c")])?;
    let open = File::options().create(true).truncate(true).write(true).open(at("clock.offset"));
    let clock = Clock { offset: open.map_err(|error| format!("clock.offset: {error}"))? };
    clock.set(0)?;
    let preload = format!("LD_PRELOAD={}", text("clock.so"));
    let offset = format!("CLOCK_OFFSET_FILE={}", text("clock.offset"));
    stage.start.wrapper = vec!["env".to_owned(), preload, offset];
    Ok(clock)
}

pub fn run(options: &Options, row: &mut Row) -> Result<(), String> {
    let cycles = options.cycles(CYCLES);
    let bar = options.progress("clock", cycles);
    let mut stage = Stage::new(options, &options.directory.join("data"), &kill::ARGUMENTS)?;
    let clock = prepare(&mut stage, options)?;
    stage.up()?;
    stage.wait_service()?;
    let (mut at, mut farthest) = (0, 0);
    for cycle in 1..=cycles {
        let life = stage.between(LIFE_MIN, LIFE_MAX);
        std::thread::sleep(life);
        let off = stage.rng.below(BEHIND_SECONDS_MAX + AHEAD_SECONDS_MAX) as i64;
        let off = off - BEHIND_SECONDS_MAX as i64;
        farthest = farthest.max((off - at).abs());
        at = off;
        if stage.rng.chance(1, 3) {
            stage.kill();
            clock.set(off)?;
            stage.up()?;
        } else {
            clock.set(off)?;
            stage.clients.load.site.relieved();
        }
        row.recovery.push(stage.wait_service()?);
        row.cycles += 1;
        if cycle % CHECK_EVERY == 0 && !stage.check_and_go_on(row) {
            break;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    row.notes.push(format!("jumps of up to {} minutes", farthest / 60));
    stage.finish(row)
}
