//! SIGKILL at random moments under mixed load, some of them while the broker is still recovering from the last one.

use std::time::Duration;

use super::stage::Stage;
use super::Options;
use crate::report::Row;

const CYCLES: u64 = 200;
/// Everything is checked each so many cycles.
const CHECK_EVERY: u64 = 20;
/// Load between service and the next kill.
const LIFE_MIN: Duration = Duration::from_millis(20);
const LIFE_MAX: Duration = Duration::from_millis(1_500);
/// Small files, so that rolling, checkpoints and segments are hit as well.
pub const ARGUMENTS: [&str; 4] = ["--storage-wal-file", "4MiB", "--shards", "2"];

pub fn run(options: &Options, row: &mut Row) -> Result<(), String> {
    let cycles = options.cycles(CYCLES);
    let bar = options.progress("kill", cycles);
    let mut stage = Stage::new(options, &options.directory.join("data"), &ARGUMENTS)?;
    stage.up()?;
    stage.wait_service()?;
    let mut kills_in_recovery = 0;
    for cycle in 1..=cycles {
        let life = stage.between(LIFE_MIN, LIFE_MAX);
        std::thread::sleep(life);
        stage.kill();
        row.cycles += 1;
        kills_in_recovery += stage.up_through_kills(|_| Ok(()))?;
        stage.up()?;
        row.recovery.push(stage.wait_service()?);
        if cycle % CHECK_EVERY == 0 && !stage.check_and_go_on(row) {
            break;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    row.notes.push(format!("{kills_in_recovery} more kills while starting"));
    stage.finish(row)
}
