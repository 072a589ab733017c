//! One member of a classic consumer group: joins, takes part in assignment, reads its partitions from
//! the start, commits, and leaves.

use super::super::wire::{unexpected, Feed, Fields, WireError};
use super::{Body, Client};
use bytes::Bytes;
use koine_broker::batch::{batches, records, BatchLimits};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const FETCH: (i16, i16) = (1, 11);
const OFFSET_COMMIT: (i16, i16) = (8, 7);
const OFFSET_FETCH: (i16, i16) = (9, 5);
const FIND_COORDINATOR: (i16, i16) = (10, 2);
const JOIN_GROUP: (i16, i16) = (11, 5);
const HEARTBEAT: (i16, i16) = (12, 3);
const LEAVE_GROUP: (i16, i16) = (13, 1);
const SYNC_GROUP: (i16, i16) = (14, 3);

const COORDINATOR_LOADING: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

const SESSION_TIMEOUT_MS: i32 = 10_000;
const REBALANCE_TIMEOUT_MS: i32 = 10_000;
const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);
const FETCH_WAIT_MS: i32 = 200;
const FETCH_BYTES: i32 = 4 << 20;
const STRATEGY: &str = "range";

/// Next offset to read, by topic; every topic of the demo has the one partition 0.
type Positions = BTreeMap<String, i64>;

struct Member<'a> {
    client: Client,
    group: &'a str,
    topics: &'a [String],
    member_id: String,
    generation: i32,
}

/// Takes part in `group` until told to stop.
pub fn read(
    address: SocketAddr,
    group: &str,
    topics: &[String],
    feed: &Feed,
) -> Result<(), WireError> {
    let client = Client::open(address)?;
    let mut member = Member { client, group, topics, member_id: String::new(), generation: -1 };
    member.find_coordinator()?;
    while !feed.is_stopped() {
        let Some(mut positions) = member.join()? else {
            continue;
        };
        feed.subscribed(positions.len());
        member.consume(&mut positions, feed)?;
        member.commit(&positions)?;
    }
    let mut leave = Body::default();
    leave.text(group).text(&member.member_id);
    member.client.call(LEAVE_GROUP, &leave)?;
    Ok(())
}

impl Member<'_> {
    fn find_coordinator(&mut self) -> Result<(), WireError> {
        let mut body = Body::default();
        body.text(self.group).i8(0);
        let asked = Instant::now();
        loop {
            let answer = self.client.call(FIND_COORDINATOR, &body)?;
            let mut fields = Fields(&answer);
            fields.i32()?;
            match fields.i16()? {
                0 => return Ok(()),
                COORDINATOR_NOT_AVAILABLE | COORDINATOR_LOADING
                    if asked.elapsed().as_secs() < 10 => {}
                code => return Err(unexpected(format!("no group coordinator, code {code}"))),
            }
        }
    }

    /// Joins and synchronises. `None` if another rebalance came first.
    fn join(&mut self) -> Result<Option<Positions>, WireError> {
        let mut subscription = Body::default();
        subscription.i16(0).i32(self.topics.len() as i32);
        self.topics.iter().for_each(|topic| {
            subscription.text(topic);
        });
        subscription.i32(-1);
        let mut body = Body::default();
        body.text(self.group)
            .i32(SESSION_TIMEOUT_MS)
            .i32(REBALANCE_TIMEOUT_MS)
            .text(&self.member_id);
        body.null_text().text("consumer").i32(1).text(STRATEGY).bytes(&subscription.0);
        let answer = self.client.call(JOIN_GROUP, &body)?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        let code = fields.i16()?;
        self.generation = fields.i32()?;
        fields.text()?;
        let leader = fields.text()?.to_owned();
        let member_id = fields.text()?.to_owned();
        match code {
            0 | MEMBER_ID_REQUIRED => self.member_id = member_id,
            UNKNOWN_MEMBER_ID => self.member_id.clear(),
            REBALANCE_IN_PROGRESS => {}
            code => return Err(unexpected(format!("joining the group failed with code {code}"))),
        }
        if code != 0 {
            return Ok(None);
        }
        let mut members = Vec::new();
        for _ in 0..fields.i32()? {
            members.push(fields.text()?.to_owned());
            fields.text()?;
            fields.sized_bytes()?;
        }
        let is_leader = leader == self.member_id;
        self.synchronise(if is_leader { &members } else { &[] })
    }

    /// The leader, the only one who knows `members`, deals the topics out in turn.
    fn synchronise(&mut self, members: &[String]) -> Result<Option<Positions>, WireError> {
        let mut body = Body::default();
        body.text(self.group).i32(self.generation).text(&self.member_id).null_text();
        body.i32(members.len() as i32);
        for (index, member) in members.iter().enumerate() {
            let share: Vec<&String> =
                self.topics.iter().skip(index).step_by(members.len()).collect();
            let mut assignment = Body::default();
            assignment.i16(0).i32(share.len() as i32);
            for topic in share {
                assignment.text(topic).i32(1).i32(0);
            }
            assignment.i32(-1);
            body.text(member).bytes(&assignment.0);
        }
        let answer = self.client.call(SYNC_GROUP, &body)?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        match fields.i16()? {
            0 => {}
            REBALANCE_IN_PROGRESS => return Ok(None),
            code => {
                return Err(unexpected(format!("synchronising the group failed with code {code}")))
            }
        }
        let mut assignment = Fields(fields.sized_bytes()?);
        let mut mine = Vec::new();
        if !assignment.0.is_empty() {
            assignment.i16()?;
            for _ in 0..assignment.i32()? {
                mine.push(assignment.text()?.to_owned());
                let partitions = assignment.i32()?;
                assignment.take(usize::try_from(partitions).unwrap_or(0) * 4)?;
            }
        }
        self.committed(&mine).map(Some)
    }

    /// Where the group stands in each topic, or the start.
    fn committed(&mut self, topics: &[String]) -> Result<Positions, WireError> {
        let mut body = Body::default();
        body.text(self.group).i32(topics.len() as i32);
        for topic in topics {
            body.text(topic).i32(1).i32(0);
        }
        let answer = self.client.call(OFFSET_FETCH, &body)?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        let mut positions = Positions::new();
        for _ in 0..fields.i32()? {
            let topic = fields.text()?.to_owned();
            for _ in 0..fields.i32()? {
                fields.i32()?;
                let offset = fields.i64()?;
                fields.i32()?;
                fields.text()?;
                fields.ok("reading a committed offset")?;
                positions.insert(topic.clone(), offset.max(0));
            }
        }
        fields.ok("reading committed offsets")?;
        Ok(positions)
    }

    /// Fetches until told to stop or to rejoin.
    fn consume(&mut self, positions: &mut Positions, feed: &Feed) -> Result<(), WireError> {
        let mut beaten = Instant::now();
        while !feed.is_stopped() {
            if beaten.elapsed() >= HEARTBEAT_EVERY {
                beaten = Instant::now();
                if !self.heartbeat()? {
                    return Ok(());
                }
            }
            self.fetch(positions, feed)?;
        }
        Ok(())
    }

    /// `false` if the group rebalances.
    fn heartbeat(&mut self) -> Result<bool, WireError> {
        let mut body = Body::default();
        body.text(self.group).i32(self.generation).text(&self.member_id).null_text();
        let answer = self.client.call(HEARTBEAT, &body)?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        match fields.i16()? {
            0 => Ok(true),
            REBALANCE_IN_PROGRESS => Ok(false),
            code => Err(unexpected(format!("a heartbeat was answered with code {code}"))),
        }
    }

    fn fetch(&mut self, positions: &mut Positions, feed: &Feed) -> Result<(), WireError> {
        let mut body = Body::default();
        // No fetch session: id 0, epoch -1.
        body.i32(-1).i32(FETCH_WAIT_MS).i32(1).i32(FETCH_BYTES).i8(0).i32(0).i32(-1);
        body.i32(positions.len() as i32);
        for (topic, position) in &*positions {
            body.text(topic).i32(1).i32(0).i32(-1).i64(*position).i64(-1).i32(FETCH_BYTES);
        }
        body.i32(0).text("");
        let answer = self.client.call(FETCH, &body)?.freeze();
        let mut fields = Fields(&answer);
        fields.i32()?;
        fields.ok("fetching")?;
        fields.i32()?;
        for _ in 0..fields.i32()? {
            let topic = fields.text()?.to_owned();
            for _ in 0..fields.i32()? {
                fields.i32()?;
                fields.ok(&format!("fetching from {topic}"))?;
                fields.take(24)?;
                let aborted = usize::try_from(fields.i32()?).unwrap_or(0);
                fields.take(aborted * 16 + 4)?;
                let stored = answer.slice_ref(fields.sized_bytes()?);
                if let Some(position) = positions.get_mut(&topic) {
                    *position = deliver(stored, *position, feed)?;
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self, positions: &Positions) -> Result<(), WireError> {
        let mut body = Body::default();
        body.text(self.group).i32(self.generation).text(&self.member_id).null_text();
        body.i32(positions.len() as i32);
        for (topic, position) in positions {
            body.text(topic).i32(1).i32(0).i64(*position).i32(-1).null_text();
        }
        let answer = self.client.call(OFFSET_COMMIT, &body)?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        for _ in 0..fields.i32()? {
            let topic = fields.text()?.to_owned();
            for _ in 0..fields.i32()? {
                fields.i32()?;
                // A rebalance may go on: the commit of the old generation is still taken.
                fields.ok(&format!("committing {topic}"))?;
            }
        }
        Ok(())
    }
}

/// Hands on what is at or behind `position`: a batch may begin earlier. Answers the next position.
fn deliver(stored: Bytes, mut position: i64, feed: &Feed) -> Result<i64, WireError> {
    let broken = |error| unexpected(format!("a fetched batch cannot be read: {error:?}"));
    for batch in batches(stored) {
        let Ok(batch) = batch else { break };
        for record in records(&batch, &BatchLimits::default()).map_err(broken)? {
            let record = record.map_err(broken)?;
            if record.offset() as i64 >= position {
                feed.received(record.value().unwrap_or_default());
                position = record.offset() as i64 + 1;
            }
        }
    }
    Ok(position)
}
