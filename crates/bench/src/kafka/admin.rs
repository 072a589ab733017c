//! Creating, finding and deleting the topic, over a blocking connection.

use super::{finish, frame_bytes, key, login, refused, request, CORRELATION_POSITION};
use crate::dialogue::Dialogue;
use crate::failure::Failure;
use crate::plan::Plan;
use koine_workload::frames::wire::{Put, Reader};
use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

/// Timestamps that ListOffsets gives a meaning to.
pub const LATEST: i64 = -1;
pub const EARLIEST: i64 = -2;

const UNKNOWN_TOPIC: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;
const NOT_LEADER: i16 = 6;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_CONFIG: i16 = 40;

/// How long a new topic may take until its leaders serve it, and how often to look.
const LEADERS_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TIMEOUT_MS: i32 = 30_000;

pub struct Admin {
    dialogue: Dialogue,
}

impl Admin {
    pub fn open(plan: &Plan, addr: &str) -> Result<Self, Failure> {
        Ok(Admin { dialogue: login::open(plan, addr)? })
    }

    fn ask(&mut self, frame: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let frame = finish(frame);
        self.dialogue.say(&frame)?;
        let answer = self.dialogue.hear(frame_bytes)?;
        let asked = &frame[CORRELATION_POSITION..CORRELATION_POSITION + 4];
        match answer.get(4..8) == Some(asked) {
            true => Ok(answer[8..].to_vec()),
            false => Err(Failure::Malformed("response header")),
        }
    }

    /// Says whether the wished durability was granted. A broker that does not know our setting gets
    /// a topic with its own default.
    pub fn create_topic(&mut self, plan: &Plan) -> Result<bool, Failure> {
        let wished = plan.durability.is_some();
        match self.try_create_topic(plan, wished)? {
            0 => Ok(wished),
            TOPIC_ALREADY_EXISTS if plan.given_name.is_some() => Ok(false),
            INVALID_CONFIG if wished => match self.try_create_topic(plan, false)? {
                0 => Ok(false),
                code => Err(refused("CreateTopics", code)),
            },
            code => Err(refused("CreateTopics", code)),
        }
    }

    fn try_create_topic(&mut self, plan: &Plan, with_durability: bool) -> Result<i16, Failure> {
        let mut frame = request(key::CREATE_TOPICS, 4, 1);
        frame.put_i32(1);
        frame.put_short_text(&plan.name());
        frame.put_i32(plan.lanes as i32);
        frame.put_i16(1); // replicas
        frame.put_i32(0); // assignments
        match plan.durability.as_ref().filter(|_| with_durability) {
            Some(level) => {
                frame.put_i32(1);
                frame.put_short_text("koine.durability");
                frame.put_short_text(level);
            }
            None => frame.put_i32(0),
        }
        frame.put_i32(TIMEOUT_MS);
        frame.put_u8(0); // validate only
        let answer = self.ask(frame)?;
        let mut reader = Reader::new(&answer, "CreateTopics response");
        reader.i32()?; // throttle time
        if reader.count()? != 1 {
            return Err(reader.malformed().into());
        }
        reader.short_bytes()?; // name
        Ok(reader.i16()?)
    }

    pub fn delete_topic(&mut self, name: &str) -> Result<(), Failure> {
        let mut frame = request(key::DELETE_TOPICS, 3, 2);
        frame.put_i32(1);
        frame.put_short_text(name);
        frame.put_i32(TIMEOUT_MS);
        let answer = self.ask(frame)?;
        let mut reader = Reader::new(&answer, "DeleteTopics response");
        reader.i32()?; // throttle time
        if reader.count()? != 1 {
            return Err(reader.malformed().into());
        }
        reader.short_bytes()?; // name
        match reader.i16()? {
            0 => Ok(()),
            code => Err(refused("DeleteTopics", code)),
        }
    }

    /// Addresses of all partitions' leaders, as soon as all have one.
    pub fn leaders(&mut self, plan: &Plan) -> Result<Vec<String>, Failure> {
        let begun = Instant::now();
        loop {
            match self.try_leaders(plan)? {
                Ok(leaders) => return Ok(leaders),
                Err(_) if begun.elapsed() < LEADERS_WITHIN => thread::sleep(LOOK_EVERY),
                Err(code) => return Err(refused("Metadata", code)),
            }
        }
    }

    /// The inner error is a code that may go away by waiting.
    fn try_leaders(&mut self, plan: &Plan) -> Result<Result<Vec<String>, i16>, Failure> {
        let mut frame = request(key::METADATA, 4, 3);
        frame.put_i32(1);
        frame.put_short_text(&plan.name());
        frame.put_u8(0); // no auto-creation
        let answer = self.ask(frame)?;
        let mut reader = Reader::new(&answer, "Metadata response");
        reader.i32()?; // throttle time
        let mut brokers = HashMap::new();
        for _ in 0..reader.count()? {
            let id = reader.i32()?;
            let host = String::from_utf8_lossy(reader.short_bytes()?).into_owned();
            let port = reader.i32()?;
            reader.short_bytes()?; // rack
            brokers.insert(id, format!("{host}:{port}"));
        }
        reader.short_bytes()?; // cluster id
        reader.i32()?; // controller
        if reader.count()? != 1 {
            return Err(reader.malformed().into());
        }
        let code = reader.i16()?;
        reader.short_bytes()?; // name
        reader.u8()?; // internal
        if code != 0 {
            return transient("Metadata", code);
        }
        let mut leaders = vec![String::new(); plan.lanes];
        for _ in 0..reader.count()? {
            let code = reader.i16()?;
            let partition = reader.i32()?;
            let leader = reader.i32()?;
            for _ in 0..2 {
                // Replicas, then those in sync.
                let count = reader.count()?;
                reader.take(count * 4)?;
            }
            if code != 0 {
                return transient("Metadata", code);
            }
            if let Some(place) = leaders.get_mut(partition as usize) {
                *place = brokers.get(&leader).cloned().unwrap_or_default();
            }
        }
        match leaders.iter().any(String::is_empty) {
            true => Ok(Err(LEADER_NOT_AVAILABLE)),
            false => Ok(Ok(leaders)),
        }
    }

    /// The first or the next offset of a partition, as soon as its leader serves it.
    pub fn offset(&mut self, plan: &Plan, lane: usize, when: i64) -> Result<i64, Failure> {
        let begun = Instant::now();
        loop {
            match self.try_offset(plan, lane, when)? {
                Ok(offset) => return Ok(offset),
                Err(_) if begun.elapsed() < LEADERS_WITHIN => thread::sleep(LOOK_EVERY),
                Err(code) => return Err(refused("ListOffsets", code)),
            }
        }
    }

    fn try_offset(
        &mut self,
        plan: &Plan,
        lane: usize,
        when: i64,
    ) -> Result<Result<i64, i16>, Failure> {
        let mut frame = request(key::LIST_OFFSETS, 1, 4);
        frame.put_i32(-1); // replica
        frame.put_i32(1);
        frame.put_short_text(&plan.name());
        frame.put_i32(1);
        frame.put_i32(lane as i32);
        frame.put_i64(when);
        let answer = self.ask(frame)?;
        let mut reader = Reader::new(&answer, "ListOffsets response");
        if reader.count()? != 1 {
            return Err(reader.malformed().into());
        }
        reader.short_bytes()?; // name
        if reader.count()? != 1 {
            return Err(reader.malformed().into());
        }
        reader.i32()?; // partition
        let code = reader.i16()?;
        reader.i64()?; // timestamp
        match code {
            0 => Ok(Ok(reader.i64()?)),
            code => transient("ListOffsets", code),
        }
    }
}

fn transient<T>(what: &str, code: i16) -> Result<Result<T, i16>, Failure> {
    match code {
        UNKNOWN_TOPIC | LEADER_NOT_AVAILABLE | NOT_LEADER => Ok(Err(code)),
        code => Err(refused(what, code)),
    }
}
