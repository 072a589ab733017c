//! Kafka: one topic, a lane is a partition. Requests are of versions that are not yet "flexible" and
//! that Kafka 4 still serves, so that frames can be built once. A message's unit is a batch.

mod admin;
mod consumer;
mod login;
mod producer;

use crate::failure::Failure;
use crate::plan::{Mode, Plan};
use crate::protocol::{Opened, Protocol};
use koine_workload::frames;
use koine_workload::frames::kafka::{finish, first_frame, frame_bytes, key, CORRELATION_POSITION};

pub const CLIENT_ID: &str = "koine-bench";

#[derive(Default)]
pub struct Kafka {
    /// Address of each partition's leader.
    leaders: Vec<String>,
    /// Where consumers begin in each partition.
    starts: Vec<i64>,
    /// The broker took `koine.durability`.
    durability_granted: bool,
}

impl Kafka {
    /// The one broker that leads all of `lanes`.
    fn leader_of(&self, lanes: &[usize]) -> Result<&str, Failure> {
        let leader = |lane: &usize| self.leaders.get(*lane).map(String::as_str);
        let first = lanes.first().and_then(leader);
        if lanes.iter().any(|lane| leader(lane) != first) {
            return Err(Failure::Usage(
                "one connection's partitions have several leaders: use more connections".into(),
            ));
        }
        first.ok_or(Failure::Malformed("Metadata response"))
    }
}

impl Protocol for Kafka {
    fn prepare(&mut self, plan: &Plan) -> Result<(), Failure> {
        let mut admin = admin::Admin::open(plan, &plan.addr)?;
        self.durability_granted = admin.create_topic(plan)?;
        self.leaders = admin.leaders(plan)?;
        let when = if plan.mode == Mode::Consume { admin::EARLIEST } else { admin::LATEST };
        self.starts = Vec::with_capacity(plan.lanes);
        // Asked of every partition, new ones too: then each leader is known to serve.
        for (lane, leader) in self.leaders.iter().enumerate() {
            if lane == 0 || leader != &self.leaders[lane - 1] {
                admin = admin::Admin::open(plan, leader)?;
            }
            self.starts.push(admin.offset(plan, lane, when)?);
        }
        Ok(())
    }

    fn producer(&self, plan: &Plan, index: usize) -> Result<Opened, Failure> {
        let lanes = plan.lanes_of(index, plan.producers);
        let dialogue = login::open(plan, self.leader_of(&lanes)?)?;
        Ok(Opened { dialogue, link: Box::new(producer::Producer::new(plan, index, &lanes)) })
    }

    fn consumer(&self, plan: &Plan, index: usize) -> Result<Opened, Failure> {
        let lanes = plan.lanes_of(index, plan.consumers);
        let dialogue = login::open(plan, self.leader_of(&lanes)?)?;
        let starts: Vec<_> = lanes.iter().map(|&lane| (lane, self.starts[lane])).collect();
        Ok(Opened { dialogue, link: Box::new(consumer::Consumer::new(plan, &starts)) })
    }

    fn clean_up(&self, plan: &Plan) -> Result<(), Failure> {
        if plan.given_name.is_some() {
            return Ok(());
        }
        admin::Admin::open(plan, &plan.addr)?.delete_topic(&plan.name())
    }

    fn promise(&self, plan: &Plan) -> String {
        let acks = if plan.acks == -1 { "acks=all" } else { "acks=1" };
        match (&plan.durability, self.durability_granted) {
            (Some(level), true) => format!("{acks}, koine.durability={level}"),
            _ => format!("{acks}, the topic's default durability"),
        }
    }
}

fn request(key: i16, version: i16, correlation: i32) -> Vec<u8> {
    frames::kafka::request(key, version, correlation, CLIENT_ID)
}

/// An error code as a failure; the codes that a load can meet have names.
fn refused(what: &str, code: i16) -> Failure {
    let name = match code {
        -1 => "unknown server error",
        1 => "offset out of range",
        2 => "corrupt message",
        3 => "unknown topic or partition",
        6 => "not leader or follower",
        7 => "request timed out",
        10 => "message too large",
        17 => "invalid topic",
        19 => "not enough replicas",
        33 => "unsupported SASL mechanism",
        58 => "authentication failed",
        29 => "topic authorization failed",
        35 => "unsupported version",
        36 => "topic already exists",
        37 => "invalid partitions",
        40 => "invalid config",
        42 => "invalid request",
        56 => "storage error",
        87 => "invalid record",
        _ => "error",
    };
    Failure::Refused(format!("{what}: {name} ({code})"))
}
