//! A consumer of partitions by offset: a simple one, which commits what it has read and goes on after a
//! reconnect from its own place or from what it had committed.

use super::batch::decode;
use super::calls::Calls;
use super::{code, requests};
use crate::client::{Client, Phase, Protocol, Step};
use crate::frames::wire::Reader as Fields;
use crate::frames::Malformed;
use crate::history::{How, Note, Order, Outcome, Process, SinkId};

/// How long the broker may wait for records.
const WAIT_MS: i32 = 100;

/// A partition to read.
#[derive(Clone, Debug)]
pub struct Partition {
    pub topic: String,
    pub partition: i32,
    pub sink: SinkId,
}

#[derive(Debug)]
enum Ask {
    Versions,
    /// Where to begin after the start of the log moved past us.
    Start,
    Fetch,
    Commit {
        index: usize,
    },
    Committed {
        asked: Order,
    },
}

#[derive(Clone, Copy, Debug)]
struct Position {
    next: i64,
    /// Offset read just before, unless it has sought since.
    last: Option<i64>,
    /// As the broker said last; below 0 if it has not.
    high_watermark: i64,
    /// Highest offset that a commit was tried with.
    committed: i64,
}

impl Position {
    const START: Position = Position { next: 0, last: None, high_watermark: -1, committed: -1 };

    fn seek(&mut self, next: i64) {
        (self.next, self.last) = (next, None);
    }
}

pub struct Reader {
    process: Process,
    group: String,
    partitions: Vec<Partition>,
    positions: Vec<Position>,
    /// Which partition is being asked about.
    turn: usize,
    calls: Calls<(usize, Ask)>,
    connection: u32,
    is_ready: bool,
}

impl Reader {
    pub fn new(process: Process, group: String, partitions: Vec<Partition>) -> Self {
        Reader {
            process,
            group,
            positions: vec![Position::START; partitions.len()],
            partitions,
            turn: 0,
            calls: Calls::default(),
            connection: 0,
            is_ready: false,
        }
    }

    fn ask(
        &mut self,
        at: usize,
        api: (i16, i16),
        about: Ask,
        step: &mut Step<'_>,
        fill: impl FnOnce(&mut Vec<u8>, &str, i32),
    ) {
        let Partition { topic, partition, .. } = &self.partitions[at];
        self.calls.ask(step.out, api, (at, about), |out| fill(out, topic, *partition));
    }

    fn answer(
        &mut self,
        (at, about): (usize, Ask),
        fields: &mut Fields<'_>,
        step: &mut Step<'_>,
    ) -> Result<(), Malformed> {
        let sink = self.partitions[at].sink;
        match about {
            Ask::Versions => {
                if !requests::api_versions_answer(fields)? {
                    return Err(Malformed("ApiVersions answer: a version in use is not served"));
                }
                self.is_ready = true;
                // What was read over the last connection came before what comes over this one.
                if step.phase == Phase::Load && self.connection > 1 {
                    (0..self.partitions.len()).for_each(|at| self.ask_committed(at, step));
                }
            }
            Ask::Start => match requests::list_offsets_answer(fields)? {
                (code::NONE, offset) => self.positions[at].seek(offset),
                (error, _) => step.refused(self.process, format!("ListOffsets: {error}")),
            },
            Ask::Fetch => self.fetched(at, fields, step)?,
            Ask::Commit { index } => {
                let error = requests::offset_commit_answer(fields)?;
                let ok = error == code::NONE;
                step.history
                    .end_commit(index, if ok { Outcome::Ok(None) } else { Outcome::Unknown });
                if !ok {
                    step.note(self.process, Note::Refused(format!("OffsetCommit: {error}")));
                }
            }
            Ask::Committed { asked } => match requests::offset_fetch_answer(fields)? {
                (code::NONE, offset) => {
                    let found = (offset >= 0).then_some(offset);
                    step.history.committed(&self.group, sink, found, asked);
                    // Half of the time it goes on as a new process would.
                    if self.calls.count() == 0 && step.rng.chance(1, 2) {
                        self.positions[at].seek(offset.max(0));
                    }
                }
                (error, _) => {
                    step.note(self.process, Note::Refused(format!("OffsetFetch: {error}")));
                }
            },
        }
        Ok(())
    }

    fn fetched(
        &mut self,
        at: usize,
        fields: &mut Fields<'_>,
        step: &mut Step<'_>,
    ) -> Result<(), Malformed> {
        let fetched = requests::fetch_answer(fields)?;
        match fetched.code {
            code::NONE => {}
            code::OFFSET_OUT_OF_RANGE => {
                self.ask(at, requests::LIST_OFFSETS, Ask::Start, step, |out, topic, partition| {
                    requests::list_offsets(out, topic, partition, requests::EARLIEST);
                });
                return Ok(());
            }
            error => {
                step.refused(self.process, format!("Fetch: {error}"));
                return Ok(());
            }
        }
        let who = (self.process, self.connection);
        let sink = self.partitions[at].sink;
        let position = &mut self.positions[at];
        position.high_watermark = fetched.high_watermark;
        let next = decode(fetched.records, position.next, |offset, body| {
            let how = How::Offset { offset, after: position.last };
            step.read(who, sink, body, how);
            position.last = Some(offset);
        })?;
        position.next = next.unwrap_or(position.next).max(position.next);
        Ok(())
    }

    fn fetch(&mut self, step: &mut Step<'_>) {
        let at = self.turn % self.partitions.len();
        self.turn += 1;
        let next = self.positions[at].next;
        self.ask(at, requests::FETCH, Ask::Fetch, step, |out, topic, partition| {
            requests::fetch(out, topic, partition, next, WAIT_MS);
        });
    }

    fn commit(&mut self, step: &mut Step<'_>) {
        let at = step.rng.below(self.partitions.len() as u64) as usize;
        let (sink, offset) = (self.partitions[at].sink, self.positions[at].next);
        if offset <= self.positions[at].committed {
            return;
        }
        self.positions[at].committed = offset;
        let index = step.history.commit(&self.group, sink, offset);
        let group = self.group.clone();
        let about = Ask::Commit { index };
        self.ask(at, requests::OFFSET_COMMIT, about, step, |out, topic, partition| {
            requests::offset_commit(out, &group, topic, partition, offset);
        });
    }

    fn ask_committed(&mut self, at: usize, step: &mut Step<'_>) {
        let (group, asked) = (self.group.clone(), step.history.tick());
        let about = Ask::Committed { asked };
        self.ask(at, requests::OFFSET_FETCH, about, step, |out, topic, partition| {
            requests::offset_fetch(out, &group, topic, partition);
        });
    }
}

impl Client for Reader {
    fn protocol(&self) -> Protocol {
        Protocol::Kafka
    }

    fn connected(&mut self, step: &mut Step<'_>) {
        self.connection += 1;
        self.calls.ask(step.out, requests::API_VERSIONS, (0, Ask::Versions), |_| {});
    }

    fn receive(&mut self, input: &[u8], step: &mut Step<'_>) -> Result<usize, Malformed> {
        let mut used = 0;
        while !step.close {
            let Some((about, mut fields, bytes)) = self.calls.answer(&input[used..])? else {
                break;
            };
            used += bytes;
            self.answer(about, &mut fields, step)?;
        }
        Ok(used)
    }

    fn act(&mut self, step: &mut Step<'_>) {
        if step.phase == Phase::SetUp || !self.is_ready || self.calls.count() > 0 {
            return;
        }
        if step.phase == Phase::Load {
            match step.rng.below(12) {
                0 | 1 => return self.commit(step),
                2 => {
                    let at = step.rng.below(self.partitions.len() as u64) as usize;
                    return self.ask_committed(at, step);
                }
                3 => {
                    // Reads something again: an offset holds one value for ever.
                    let at = step.rng.below(self.partitions.len() as u64) as usize;
                    let back = step.rng.below(20) as i64;
                    let next = self.positions[at].next;
                    self.positions[at].seek((next - back).max(0));
                }
                _ => {}
            }
        }
        self.fetch(step);
    }

    fn lost(&mut self, step: &mut Step<'_>) {
        self.is_ready = false;
        for (_, about) in self.calls.clear() {
            if let Ask::Commit { index } = about {
                step.history.end_commit(index, Outcome::Unknown);
            }
        }
    }

    fn is_set_up(&self) -> bool {
        true
    }

    fn is_waiting(&self) -> bool {
        self.calls.count() > 0
    }

    fn is_finished(&self) -> bool {
        true
    }

    fn has_read_all(&self) -> bool {
        self.positions.iter().all(|p| p.high_watermark >= 0 && p.next >= p.high_watermark)
    }

    fn read_all(&mut self) {
        for position in &mut self.positions {
            position.seek(0);
            position.high_watermark = -1;
        }
    }
}
