//! Damage to the disk that nobody reports: doing it, and what the node may do about it. It may refuse to
//! start or to answer, and give up; it must not serve a wrong byte or silently miss one.

use super::client::Client;
use super::faults::Fault;
use super::World;
use crate::coverage::Mark;
use crate::disk::{FaultyDisk, Misfire};
use crate::model::{violation, Checked, Violation};
use koine_base::{ConnectionId, StreamId};
use koine_broker::session::ConsumerId;
use koine_cluster::ShardOpenError;
use koine_log::OpenError;

/// Ends of the node over damage after which the run is over.
const DEATHS_MAX: u32 = 3;

/// Places that are tried for a flip that has to be noticed.
const PLACES_MAX: u32 = 20;

#[derive(Default)]
pub(super) struct Damage {
    /// Bits are to flip before the node starts again.
    flips_next: bool,
    /// Those that did: path, position, mask. Taken back when the node refuses to start.
    flips: Vec<(String, u64, u8)>,
    /// The node has started on a log whose very end is damaged: what was there may be gone.
    pub is_excused: bool,
    deaths: u32,
    refused: bool,
    /// The node cannot be brought back, and said why.
    is_over: bool,
    /// Failed reads that may no longer be an excuse.
    reads_forgiven: u64,
}

impl Damage {
    /// From here on every read has to succeed.
    pub fn forgive_reads(&mut self, disk: &FaultyDisk) {
        self.reads_forgiven = disk.reads_failed();
    }
}

/// What no damage excuses: bytes that nobody wrote.
fn is_wrong_byte(violation: &Violation) -> bool {
    let wrong = [
        "garbled",
        "bad checksum",
        "unreadable batch",
        "bad record",
        "never sent",
        "is not what was read",
    ];
    wrong.iter().any(|text| violation.0.contains(text))
}

impl World {
    /// Some bits somewhere; with luck in a place where it has to be noticed.
    fn flip(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<(String, u64, u8)> {
        let paths: Vec<String> =
            self.disk.paths().into_iter().filter(|path| wanted(path)).collect();
        let mut flips = Vec::new();
        let may_be_last = self.faults.chance(1, 4);
        for _ in 0..PLACES_MAX {
            if paths.is_empty() || flips.len() as u64 > self.faults.below(8) {
                break;
            }
            let path = &paths[self.faults.below(paths.len() as u64) as usize];
            let size = self.disk.contents(path).map_or(0, |bytes| bytes.len() as u64);
            if size == 0 {
                continue;
            }
            // Headers and the first frames more often than their size is worth.
            let within = if self.faults.chance(1, 2) { size } else { size.min(6000) };
            let position = self.faults.below(within);
            let mask = match self.faults.chance(3, 4) {
                true => 1 << self.faults.below(8),
                false => 1 + self.faults.below(255) as u8,
            };
            self.disk.decay(path, position, mask);
            if self.disk.is_excusable() && !may_be_last {
                self.disk.restore(path, position, mask);
                continue;
            }
            self.note(|| format!("bits {mask:#04x} of {path} at {position} flip"));
            flips.push((path.clone(), position, mask));
        }
        flips
    }

    /// The node ends; before it comes back some bits flip.
    pub(super) fn flip_at_rest(&mut self) -> Checked {
        self.damage.flips_next = true;
        if self.faults.chance(1, 3) {
            return self.stop_in_order();
        }
        let how = self.any_crash();
        self.crash(how)
    }

    /// Just before the node starts.
    pub(super) fn decay(&mut self) {
        if std::mem::take(&mut self.damage.flips_next) {
            self.damage.flips = self.flip(|_| true);
            if !self.damage.flips.is_empty() {
                self.mark(Mark::FlippedAtRest);
            }
        }
    }

    pub(super) fn flip_while_running(&mut self) {
        if !self.flip(|path| path.contains("/segments/") || path.contains("/wal/")).is_empty() {
            self.mark(Mark::FlippedWhileRunning);
        }
    }

    pub(super) fn misfire(&mut self, fault: Fault) {
        let misfire = match fault {
            Fault::LostWrite => Misfire::Lost,
            _ => Misfire::Misdirected {
                file: self.faults.next_u64(),
                sector: self.faults.below(1 << 20),
            },
        };
        self.disk.misfire(Some((self.faults.below(8), misfire)));
        if self.faults.chance(1, 3) {
            // Now and then it is the last thing that the disk is asked to do.
            self.disk.stop_after(self.faults.below(12));
        }
    }

    /// True for a named reason that the damage explains.
    pub(super) fn may_refuse_to_start(&self, error: &ShardOpenError) -> bool {
        match error {
            ShardOpenError::Log(OpenError::Io { error, .. }) => {
                error.to_string().contains("injected read")
            }
            ShardOpenError::Log(OpenError::Corrupt { .. } | OpenError::UnknownVersion { .. })
            | ShardOpenError::Unreadable { .. } => self.disk.is_damaged(),
            ShardOpenError::NoMetadata => false,
        }
    }

    pub(super) fn note_misfires(&mut self) {
        for fired in self.disk.take_fired() {
            self.note(|| format!("{fired:?}"));
            self.mark(match fired.misfire {
                Misfire::Lost => Mark::WriteLost,
                Misfire::Misdirected { .. } => Mark::WriteMisdirected,
            });
        }
    }

    /// The node refused to start: if all that is wrong happened while it was down, it is put right.
    pub(super) fn repair(&mut self) -> Checked {
        // Whatever the start had begun, ends.
        self.disk.kill();
        if !self.disk.is_damaged() {
            self.mark(Mark::ReadFailed);
            return Ok(());
        }
        self.mark(Mark::StartRefused);
        for (path, position, mask) in std::mem::take(&mut self.damage.flips).into_iter().rev() {
            self.disk.restore(&path, position, mask);
            self.damage.refused = true;
        }
        if self.disk.is_damaged() {
            self.damage.is_over = true;
            return violation("the disk is beyond repair");
        }
        Ok(())
    }

    pub(super) fn started(&mut self) {
        self.damage.flips.clear();
        if self.disk.forget_mended() > 0 {
            self.mark(Mark::Mended);
        }
        if std::mem::take(&mut self.damage.refused) {
            self.mark(Mark::StartedAfterRepair);
        }
    }

    /// True if the log may end the node with these words.
    pub(super) fn may_give_up(&self, text: &str) -> bool {
        text.contains("injected read") || self.disk.is_damaged() && text.contains("is damaged")
    }

    pub(super) fn count_death(&mut self) -> Checked {
        if !self.disk.is_damaged() {
            self.mark(Mark::ReadFailed);
            return Ok(());
        }
        self.mark(Mark::StoppedCorrupt);
        self.damage.deaths += 1;
        if self.damage.deaths >= DEATHS_MAX {
            self.damage.is_over = true;
            return violation("the node finds the damage again and again");
        }
        Ok(())
    }

    /// Something stored may be refused as damaged.
    pub(super) fn may_be_unreadable(&self) -> bool {
        self.disk.is_damaged() || self.disk.reads_failed() > self.damage.reads_forgiven
    }

    pub(super) fn refused_as_corrupt(&mut self, stream: StreamId) {
        if !self.disk.is_damaged() {
            return self.mark(Mark::ReadFailed);
        }
        self.mark(Mark::RefusedCorrupt);
        if let Some(model) = self.model.stream(stream) {
            model.is_damaged = true;
        }
    }

    /// A consumer of a stream that cannot be read was told to go.
    pub(super) fn sent_away(
        &mut self,
        slot: usize,
        stream: StreamId,
        consumer: ConsumerId,
    ) -> Checked {
        self.mark(Mark::CancelledCorrupt);
        let (holder, is_damaged) = ((self.clients[slot].raw(), consumer), self.disk.is_damaged());
        if let Some(model) = self.model.stream(stream) {
            model.cursor.sent_away(holder);
            model.is_damaged |= is_damaged;
        }
        Ok(())
    }

    /// A consumer on another shard is being sent away: what it held may be another's before it hears of
    /// that, as a server's Basic.Cancel and a client's next requests may cross. What was on its way to it
    /// comes too late.
    pub(super) fn cancel_leaves(
        &mut self,
        to: ConnectionId,
        stream: StreamId,
        consumer: ConsumerId,
    ) -> Checked {
        let whose = |client: &Client| client.connection.is_some_and(|(_, id)| id == to);
        let Some(slot) = self.clients.iter().position(whose) else { return Ok(()) };
        if !self.may_be_unreadable() {
            return Ok(());
        }
        self.clients[slot].consumers.remove(&consumer);
        self.sent_away(slot, stream, consumer)
    }

    /// The end of a run, seen with what happened to the disk.
    pub(super) fn judge_damage(&mut self, outcome: Checked) -> Checked {
        match outcome {
            Err(_) if self.damage.is_over => Ok(()),
            Err(violation) if self.damage.is_excused && !is_wrong_byte(&violation) => {
                self.note(|| format!("excused: {violation}"));
                self.mark(Mark::DamageExcused);
                Ok(())
            }
            Ok(()) if self.disk.is_damaged() => {
                self.mark(Mark::LivedWithDamage);
                Ok(())
            }
            outcome => outcome,
        }
    }
}
