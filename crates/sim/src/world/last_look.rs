//! The end of a run: no more faults, everything that was asked is answered, everything that was kept is
//! read and drained, and the model says whether something is missing.

use super::client::Question;
use super::World;
use crate::model::{violation, Checked, Violation};
use koine_base::StreamId;
use koine_broker::session::{Request, Settlement};

/// Rounds of draining without an end.
const ROUNDS_MAX: usize = 10_000;

impl World {
    pub(super) fn last_look(&mut self) -> Checked {
        self.note(|| "last look".to_owned());
        self.calm();
        self.clients_on = false;
        self.rest()?;
        self.damage.forgive_reads(&self.disk);
        self.check_answered()?;
        for slot in 0..self.clients.len() {
            self.drop_client(slot);
        }
        self.pump_all()?;
        self.rest()?;
        if self.faults.chance(1, 2) {
            let how = self.any_crash();
            self.crash(how)?;
        }
        let scout = self.scout();
        self.connect(scout);
        let streams: Vec<StreamId> = self.model.usable().map(|stream| stream.id).collect();
        for stream in streams {
            if self.shards[0].metadata().stream_owner(stream).is_none() {
                if let Some(model) = self.model.stream(stream) {
                    model.deleted = true;
                }
                continue;
            }
            self.look_at(scout, stream)?;
        }
        self.look_at_the_rest(scout)?;
        self.check_copies()?;
        self.count_stats();
        Ok(())
    }

    /// No more faults.
    pub(super) fn calm(&mut self) {
        self.faults_on = false;
        self.make_room();
        // Faults that wait for their moment never come.
        self.disk.fail_sync(u64::MAX);
        self.disk.fail_write(u64::MAX);
        self.disk.stop_after(1 << 60);
        self.disk.fail_read(None);
        self.disk.misfire(None);
    }

    /// Every question got its answer, but those about a future that never came.
    fn check_answered(&self) -> Checked {
        for client in &self.clients {
            for asked in client.waiting.values() {
                let may_wait = match &asked.question {
                    Question::Watch { stream, offset } => self
                        .model
                        .streams
                        .get(stream)
                        .is_none_or(|model| model.is_unsure() || *offset >= model.records.end),
                    _ => false,
                };
                if !may_wait {
                    let (slot, question) = (client.slot, &asked.question);
                    return violation(format!("client {slot} never gets an answer: {question:?}"));
                }
            }
        }
        Ok(())
    }

    /// Waits for the answers to what the scout asked.
    fn ask(&mut self, scout: usize) -> Checked {
        self.send(scout);
        self.pump_all()?;
        for _ in 0..super::RESTLESS_TASKS_MAX {
            if self.clients[scout].waiting.is_empty() && self.busy == 0 {
                return Ok(());
            }
            self.run_task()?;
        }
        violation("the last look gets no answer")
    }

    fn look_at(&mut self, scout: usize, stream: StreamId) -> Checked {
        self.read_all(scout, stream)?;
        self.drain(scout, stream)?;
        let kept = std::mem::take(&mut self.kept);
        match self.model.stream(stream) {
            Some(model) => model.close(&kept),
            None => Ok(()),
        }
    }

    /// Reads the stream as a log, from its start to its end.
    fn read_all(&mut self, scout: usize, stream: StreamId) -> Checked {
        self.kept.clear();
        self.ask_bounds(scout, stream);
        self.ask(scout)?;
        let mut next = 0;
        self.kept_bounds = None;
        for _ in 0..ROUNDS_MAX {
            if let Some(bounds) = self.kept_bounds {
                if next >= bounds.end {
                    return Ok(());
                }
            }
            let serial = self.serial();
            let token = self.clients[scout].ask(serial, Question::ReadAll { stream, offset: next });
            let bytes_max = 1 << 16;
            self.clients[scout].request(Request::Read { token, stream, offset: next, bytes_max });
            self.ask(scout)?;
            if self.model.is_damaged(stream) {
                return Ok(());
            }
            match self.kept.last_key_value() {
                Some((last, _)) if *last >= next => next = last + 1,
                _ if self.kept_bounds.is_some_and(|bounds| bounds.end == next) => {}
                // Something was trimmed: its start is the first offset that can be read.
                _ => match self.first_kept(scout, stream)? {
                    start if start > next => next = start,
                    _ => return violation(format!("{stream} cannot be read from {next} on")),
                },
            }
        }
        violation(format!("{stream} cannot be read to its end"))
    }

    fn first_kept(&mut self, scout: usize, stream: StreamId) -> Result<u64, Violation> {
        let serial = self.serial();
        let token = self.clients[scout].ask(serial, Question::Bounds { stream, end: 0, epoch: 0 });
        self.clients[scout].request(Request::Bounds { token, stream });
        self.start = None;
        self.ask(scout)?;
        self.start.ok_or_else(|| Violation(format!("{stream} has no bounds")))
    }

    /// Consumes everything that is left.
    fn drain(&mut self, scout: usize, stream: StreamId) -> Checked {
        let consumer = self.clients[scout].next_consumer;
        self.attach_with(scout, stream, u32::MAX, false, 0, u64::MAX);
        self.ask(scout)?;
        let holder = (self.clients[scout].raw(), consumer);
        for _ in 0..ROUNDS_MAX {
            let Some(model) = self.model.streams.get(&stream).filter(|model| !model.is_damaged)
            else {
                return Ok(());
            };
            let held = model.cursor.held(holder);
            if held.is_empty() {
                self.ask_status(scout, stream);
                self.ask(scout)?;
                let is_empty = |status: koine_broker::session::QueueStatus| {
                    status.ready == 0 && status.unacked == 0
                };
                if self.status.is_some_and(is_empty) {
                    if let Some(model) = self.model.stream(stream) {
                        model.cursor.is_drained = true;
                    }
                    return Ok(());
                }
                let Some(model) = self.model.streams.get(&stream) else { return Ok(()) };
                if model.cursor.held(holder).is_empty() {
                    let text = format!("{:?}, and nothing is handed out", self.status);
                    return Err(model.name_it(Violation(text)));
                }
                continue;
            }
            self.settle_these(scout, stream, consumer, &held, Settlement::Ack);
            self.ask(scout)?;
        }
        violation(format!("{stream} is never empty"))
    }

    /// Group offsets and retained messages.
    fn look_at_the_rest(&mut self, scout: usize) -> Checked {
        let groups: Vec<_> = self.model.groups.iter().map(|(k, v)| (k.clone(), v.acked)).collect();
        for (key, at_least) in groups {
            let serial = self.serial();
            let (group, partition) = key.clone();
            let token = self.clients[scout].ask(serial, Question::Offsets { key, at_least });
            let partitions = Some(vec![("t".to_owned(), partition)]);
            self.clients[scout].request(Request::FetchOffsets { token, group, partitions });
        }
        let retained: Vec<_> =
            self.model.retained.iter().map(|(k, v)| (k.clone(), v.acked)).collect();
        for (subject, at_least) in retained {
            let serial = self.serial();
            let filter = subject.clone();
            let token = self.clients[scout].ask(serial, Question::Retained { subject, at_least });
            let namespace = super::actions::NAMESPACE;
            self.clients[scout].request(Request::Retained {
                token,
                namespace,
                filter,
                after: None,
            });
        }
        self.ask(scout)
    }
}
