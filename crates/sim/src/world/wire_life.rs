//! A whole run of a node among clients that speak protocols: set-up, load and faults, then peace, in which
//! everything is drained and judged.

use super::World;
use crate::coverage::Mark;
use crate::model::{violation, Checked};
use koine_workload::history::Note;

/// Virtual time in which the clients must have made what they need, and in which they must be drained.
const SET_UP_US: u64 = 200_000_000;
const DRAIN_US: u64 = 900_000_000;

impl World {
    pub(super) fn live_wired(&mut self) -> Checked {
        self.poll_after(1);
        self.schedule_fault();
        let until = self.now.moment.0 + SET_UP_US;
        while !self.wires().mix().is_loading() {
            self.run_task()?;
            if self.now.moment.0 > until {
                let open = self.wires().mix().unfinished();
                return violation(format!("set-up never comes to its end: {open:?}"));
            }
        }
        self.note(|| "the load begins".to_owned());
        let until = self.now.moment.0 + self.options.wire.as_ref().map_or(0, |wire| wire.span_us);
        while self.now.moment.0 < until {
            self.run_task()?;
        }
        self.calm();
        if self.faults.chance(1, 2) {
            let how = self.any_crash();
            self.crash(how)?;
        }
        self.drain_wires()?;
        self.check_copies()?;
        self.count_stats();
        self.judge_wires()
    }

    fn drain_wires(&mut self) -> Checked {
        self.note(|| "the load ends".to_owned());
        let now = self.now;
        self.wires().mix().drain(now);
        let until = now.moment.0 + DRAIN_US;
        while !self.wires().mix().is_drained() {
            self.run_task()?;
            if self.now.moment.0 > until {
                let open = self.wires().mix().unfinished();
                return violation(format!("clients are never through: {open:?}"));
            }
        }
        Ok(())
    }

    fn judge_wires(&mut self) -> Checked {
        let verdict = self.wires().mix().judge();
        let counts = verdict.counts;
        let notes = self.wires().mix().history().notes.keys().map(|(_, note)| note.clone());
        let mut marks: Vec<Mark> = notes
            .filter_map(|note| match note {
                Note::Repeated => Some(Mark::ClientRepeated),
                Note::Refused(_) => Some(Mark::RefusedToClient),
                Note::Returned => Some(Mark::Returned),
                _ => None,
            })
            .collect();
        let counted = [
            (Mark::ClientRedelivered, counts.redelivered),
            (Mark::ClientRecovered, counts.recovered),
            (Mark::RetainedSeen, counts.retained_seen),
            (Mark::GroupOffsetSeen, counts.committed_seen),
        ];
        marks.extend(counted.into_iter().filter(|(_, count)| *count > 0).map(|(mark, _)| mark));
        marks.into_iter().for_each(|mark| self.mark(mark));
        self.note(|| format!("{counts:?}"));
        match verdict.anomalies.first() {
            None => Ok(()),
            Some(first) => {
                self.note(|| format!("{verdict}"));
                violation(first.to_string())
            }
        }
    }
}
