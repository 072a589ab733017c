//! What the world does to the node.

use super::{Task, World};
use crate::coverage::Mark;
use crate::model::Violation;
use crate::options::draw;
use koine_base::disk::Disk;
use koine_base::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    CrashLosingAll,
    CrashKeepingAll,
    CrashBySector,
    CrashTearing,
    CleanStop,
    /// One of the next syncs fails; the node has to stop.
    SyncFailure,
    WriteFailure,
    /// Little room is left on the device, for a while.
    DiskFull,
    DiskSlow,
    ClockJump,
    /// Every client goes at once.
    PeersGone,
    /// Bits flip while the node is down.
    FlipAtRest,
    FlipWhileRunning,
    LostWrite,
    MisdirectedWrite,
    ReadFailure,
}

impl Fault {
    /// With usual weights.
    pub const ALL: [(Fault, u64); 16] = [
        (Fault::CrashLosingAll, 6),
        (Fault::CrashKeepingAll, 3),
        (Fault::CrashBySector, 6),
        (Fault::CrashTearing, 4),
        (Fault::CleanStop, 3),
        (Fault::SyncFailure, 2),
        (Fault::WriteFailure, 2),
        (Fault::DiskFull, 3),
        (Fault::DiskSlow, 3),
        (Fault::ClockJump, 3),
        (Fault::PeersGone, 2),
        (Fault::FlipAtRest, 3),
        (Fault::FlipWhileRunning, 3),
        (Fault::LostWrite, 2),
        (Fault::MisdirectedWrite, 2),
        (Fault::ReadFailure, 3),
    ];

    /// It leaves bytes on the disk that are not what was written.
    pub(crate) fn does_damage(self) -> bool {
        matches!(
            self,
            Fault::FlipAtRest
                | Fault::FlipWhileRunning
                | Fault::LostWrite
                | Fault::MisdirectedWrite
        )
    }

    /// Those that clients must not notice but by waiting.
    pub const WIRED: [Fault; 11] = [
        Fault::CrashLosingAll,
        Fault::CrashKeepingAll,
        Fault::CrashBySector,
        Fault::CrashTearing,
        Fault::CleanStop,
        Fault::SyncFailure,
        Fault::WriteFailure,
        Fault::DiskFull,
        Fault::DiskSlow,
        Fault::ClockJump,
        Fault::PeersGone,
    ];

    pub(super) fn is_crash(self) -> bool {
        matches!(
            self,
            Fault::CrashLosingAll
                | Fault::CrashKeepingAll
                | Fault::CrashBySector
                | Fault::CrashTearing
        )
    }
}

impl World {
    pub(super) fn schedule_fault(&mut self) {
        let wait = 1 + self.faults.below(self.options.fault_every_us * 2);
        self.schedule(wait, Task::Fault);
    }

    pub(super) fn make_fault(&mut self) -> Result<(), Violation> {
        let Some(fault) = draw(&mut self.faults, &self.options.faults) else { return Ok(()) };
        self.note(|| format!("fault {fault:?}"));
        match fault {
            crash if crash.is_crash() => self.crash(crash)?,
            Fault::CleanStop => self.stop_in_order()?,
            Fault::SyncFailure => self.disk.fail_sync(self.faults.below(6)),
            Fault::WriteFailure => self.disk.fail_write(self.faults.below(6)),
            Fault::DiskFull => self.fill_disk(),
            Fault::DiskSlow => {
                self.mark(Mark::DiskSlow);
                self.slow_until = self.now.moment.0 + self.faults.below(50_000);
            }
            Fault::ClockJump => {
                self.mark(Mark::ClockJumped);
                let jump_ms = self.faults.below(200_000) as i64 - 100_000;
                self.wall_ahead_ms += jump_ms;
            }
            Fault::FlipAtRest => self.flip_at_rest()?,
            Fault::FlipWhileRunning => self.flip_while_running(),
            Fault::LostWrite | Fault::MisdirectedWrite => self.misfire(fault),
            Fault::ReadFailure => self.disk.fail_read(Some(self.faults.below(6))),
            _ => {
                for slot in 0..self.clients.len() {
                    self.drop_client(slot);
                }
                self.drop_wires();
            }
        }
        self.schedule_fault();
        Ok(())
    }

    fn fill_disk(&mut self) {
        self.mark(Mark::DiskFull);
        if let Some(wires) = &mut self.wire {
            wires.mix().expect_refusals();
        }
        const CAPACITY: u64 = 1 << 40;
        self.disk.limit(Some(CAPACITY));
        let used = CAPACITY - self.disk.free_bytes().unwrap_or(0);
        let room = self.faults.below(self.options.wal_file_bytes * 2);
        self.disk.limit(Some(used + room));
        self.full_since = Some(self.now.moment.0);
        let wait = 1 + self.faults.below(100_000);
        self.schedule(wait, Task::Room);
    }

    /// Somebody made room on the device.
    pub(super) fn make_room(&mut self) {
        self.disk.limit(None);
        if self.full_since.take().is_some() {
            self.full_until = self.now.moment.0;
        }
    }

    /// Where the wall clock stands.
    pub(super) fn wall(&self, moment_us: u64) -> Timestamp {
        Timestamp(1_700_000_000_000 + (moment_us / 1000) as i64 + self.wall_ahead_ms)
    }
}
