//! A device that fails while the kernel writes back: a loop device on a tmpfs with no room left. The page cache takes
//! the bytes, the sync reports an error, and a second sync would report success (what PostgreSQL met in 2018). The
//! broker has to end at the first one; what it had acknowledged is there when the device works again.

use std::path::Path;
use std::time::Duration;

use super::stage::Stage;
use super::{fsync, full, kill, Options};
use crate::broker::run as command;
use crate::report::Row;
use crate::volume::Volume;

const CYCLES: u64 = 5;
const TMPFS: &str = "size=1g";
const VOLUME_BYTES: u64 = 4 << 30;
const LIFE: Duration = Duration::from_secs(1);

/// A tmpfs of its own; unmounted when dropped.
struct Room<'a>(&'a Path);

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let _ = command("umount", &[&self.0.to_string_lossy()]);
    }
}

pub fn run(options: &Options, row: &mut Row) -> Result<(), String> {
    let cycles = options.cycles(CYCLES);
    let bar = options.progress("writeback", cycles);
    let at = options.directory.join("room");
    std::fs::create_dir_all(&at).map_err(|error| error.to_string())?;
    command("mount", &["-t", "tmpfs", "-o", TMPFS, "tmpfs", &at.to_string_lossy()])?;
    let room = Room(&at);
    let mut volume = Volume::make(room.0, VOLUME_BYTES)?;
    let ballast = room.0.join("ballast");
    let mut stage = Stage::new(options, &volume.path().join("data"), &kill::ARGUMENTS)?;
    let kept = options.directory.join("data-before-start");
    let mut words = Vec::new();
    for _ in 0..cycles {
        stage.up()?;
        stage.wait_service()?;
        std::thread::sleep(LIFE);
        full::fill(&ballast)?;
        let said = fsync::wait_deliberate_exit(&mut stage)?;
        stage.kill();
        if !words.contains(&said) {
            words.push(said);
        }
        std::fs::remove_file(&ballast).map_err(|error| error.to_string())?;
        volume.unmount()?;
        volume.mount()?;
        // What the device had, for whoever has to find out why something is missing.
        let _ = std::fs::remove_dir_all(&kept);
        let _ =
            command("cp", &["-r", &stage.start.data.to_string_lossy(), &kept.to_string_lossy()]);
        stage.up()?;
        row.recovery.push(stage.wait_service()?);
        row.cycles += 1;
        stage.check(row);
        stage.kill();
        if !row.passed() {
            break;
        }
        stage.go_on();
        bar.inc(1);
    }
    bar.finish_and_clear();
    row.notes.extend(words.into_iter().map(|text| format!("it said: {text}")));
    stage.up()?;
    stage.finish(row)
}
