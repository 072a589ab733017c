//! Power cuts: the file system drops whatever was not synced, names of files included, and is mounted again, the broker
//! started on what is left. In about half of the cuts the broker stops first, as it does without power; in the others it runs
//! on and sees the file system fail. Some cuts come while it recovers from the last one.

use std::time::Duration;

use super::stage::Stage;
use super::{kill, Options};
use crate::report::Row;
use crate::volume::Volume;

const CYCLES: u64 = 40;
const CHECK_EVERY: u64 = 5;
const LIFE_MIN: Duration = Duration::from_millis(100);
const LIFE_MAX: Duration = Duration::from_millis(3_000);
const VOLUME_BYTES: u64 = 6 << 30;

pub fn run(options: &Options, row: &mut Row) -> Result<(), String> {
    let cycles = options.cycles(CYCLES);
    let bar = options.progress("power", cycles);
    std::fs::create_dir_all(&options.directory).map_err(|error| error.to_string())?;
    let mut volume = Volume::make(&options.directory, VOLUME_BYTES)?;
    let mut stage = Stage::new(options, &volume.path().join("data"), &kill::ARGUMENTS)?;
    stage.up()?;
    stage.wait_service()?;
    let mut cuts_in_recovery = 0;
    for cycle in 1..=cycles {
        let life = stage.between(LIFE_MIN, LIFE_MAX);
        std::thread::sleep(life);
        cut(&volume, &mut stage)?;
        row.cycles += 1;
        remount(&mut volume)?;
        while stage.rng.chance(1, 4) {
            stage.spawn()?;
            let wait = stage.between(Duration::ZERO, Duration::from_millis(100));
            std::thread::sleep(wait);
            cut(&volume, &mut stage)?;
            remount(&mut volume)?;
            cuts_in_recovery += 1;
        }
        stage.up()?;
        row.recovery.push(stage.wait_service()?);
        if cycle % CHECK_EVERY == 0 && !stage.check_and_go_on(row) {
            break;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    row.notes.push(format!("{cuts_in_recovery} more cuts while starting"));
    stage.finish(row)
}

/// Without power the processor stops with the disk. A broker that runs on has to bear more: acknowledgements that
/// rest on a sync under way while the file system goes, which may report success for what the journal never got.
fn cut(volume: &Volume, stage: &mut Stage) -> Result<(), String> {
    if stage.rng.chance(1, 2) {
        stage.process.as_ref().ok_or("no process")?.signal("STOP")?;
    }
    volume.cut()?;
    stage.kill();
    Ok(())
}

fn remount(volume: &mut Volume) -> Result<(), String> {
    volume.unmount()?;
    volume.mount()
}
