//! ListOffsets (key 2): the start, the end, or the first record at or after a time.

use crate::codec::generated::list_offsets::{Partition, Request, Response, Topic};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Op, Operation, Started};
use crate::reply::Reply;
use koine_base::{StreamId, Timestamp};
use koine_broker::access::Action;
use koine_broker::session::{Event, Request as Ask, StreamBounds};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// First versions of the special timestamps (KIP-734, KIP-405, KIP-1005, KIP-1023).
fn is_known(timestamp: i64, version: i16) -> bool {
    match timestamp {
        0.. | LATEST | EARLIEST => true,
        MAX_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        LATEST_TIERED => version >= 9,
        EARLIEST_PENDING_UPLOAD => version >= 11,
        _ => false,
    }
}

/// The record with the largest timestamp is found by halving: the engine can only say which record
/// is the first at or after a time. `found` is at or after every time asked about so far with an
/// answer; nothing is at or after `none_from`.
#[derive(Clone, Copy)]
struct Search {
    found: Option<(u64, i64)>,
    none_from: i64,
    asked: i64,
}

impl Search {
    fn start(wall: i64) -> Self {
        Search { found: None, none_from: i64::MAX, asked: wall.max(0) }
    }

    /// Takes an answer; true if another question, about `asked`, has to follow.
    fn step(&mut self, located: Option<(u64, i64)>) -> bool {
        match located {
            Some((offset, timestamp)) => self.found = Some((offset, timestamp.max(self.asked))),
            None => self.none_from = self.asked,
        }
        // Records without a time carry -1: they are not looked for.
        let low = self.found.map_or(-1, |(_, timestamp)| timestamp);
        let left = self.none_from.saturating_sub(low);
        self.asked = low + left / 2;
        left > 1
    }
}

struct Place {
    answer: Partition,
    stream: Option<StreamId>,
    wanted: i64,
    current_leader_epoch: i32,
    search: Option<Search>,
}

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let op = env.new_op();
    let mut places = Vec::new();
    let mut names = Vec::new();
    let mut waiting = 0;
    for topic in request.topics {
        let allowed = env.may_topic(Action::Describe, &topic.name);
        for wanted in &topic.partitions {
            let answer =
                Partition { partition_index: wanted.partition_index, ..Partition::default() };
            let mut place = Place {
                answer,
                stream: None,
                wanted: wanted.timestamp,
                current_leader_epoch: wanted.current_leader_epoch,
                search: None,
            };
            let found = match is_known(wanted.timestamp, reply.version) {
                true => {
                    allowed.and_then(|()| env.catalog().stream(&topic.name, wanted.partition_index))
                }
                false if allowed.is_err() => Err(ErrorCode::TopicAuthorizationFailed),
                false => Err(ErrorCode::UnsupportedVersion),
            };
            match found {
                Ok(stream) => {
                    place.stream = Some(stream);
                    waiting += usize::from(ask(&mut place, op, places.len(), env));
                }
                Err(error) => place.answer.error_code = error.code(),
            }
            places.push(place);
        }
        names.push((topic.name, topic.partitions.len()));
    }
    let mut operation = ListOffsets { op, reply, names, places: Gather::new(places, waiting) };
    if waiting == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

/// Asks the first question of a place; false if it needs none.
fn ask(place: &mut Place, op: Op, index: usize, env: &mut Env<'_, '_>) -> bool {
    let Some(stream) = place.stream else { return false };
    let token = op.token_at(index);
    match place.wanted {
        // Nothing is tiered, so nothing is there and nothing is waiting to go there: -1.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return false,
        LATEST | EARLIEST | EARLIEST_LOCAL => env.request(Ask::Bounds { token, stream }),
        MAX_TIMESTAMP => {
            let search = Search::start(env.ctx.now.wall.0);
            place.search = Some(search);
            env.request(Ask::Locate { token, stream, timestamp: Timestamp(search.asked) });
        }
        time => env.request(Ask::Locate { token, stream, timestamp: Timestamp(time) }),
    }
    true
}

/// Checks the epoch that a client believes in against the stream's (KIP-320). 0 is none, as below it: no
/// leader has it here, and librdkafka 2.x sends it for one that it does not know.
pub(super) fn check_epoch(believed: i32, epoch: i32) -> Result<(), ErrorCode> {
    match believed {
        ..=0 => Ok(()),
        _ if believed > epoch => Err(ErrorCode::UnknownLeaderEpoch),
        _ if believed < epoch => Err(ErrorCode::FencedLeaderEpoch),
        _ => Ok(()),
    }
}

impl Place {
    fn take_bounds(&mut self, bounds: StreamBounds) {
        if let Err(error) = check_epoch(self.current_leader_epoch, bounds.epoch) {
            self.answer.error_code = error.code();
            return;
        }
        if self.wanted == LATEST {
            self.answer.offset = bounds.end as i64;
            self.answer.leader_epoch = bounds.epoch;
        } else {
            // The epoch of the oldest record is not known here.
            self.answer.offset = bounds.start as i64;
        }
    }

    fn take_record(&mut self, offset: u64, timestamp: i64) {
        self.answer.offset = offset as i64;
        self.answer.timestamp = timestamp;
    }
}

struct ListOffsets {
    op: Op,
    reply: Reply,
    names: Vec<(String, usize)>,
    places: Gather<Place>,
}

impl ListOffsets {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let mut partitions = std::mem::take(&mut self.places.answers).into_iter().map(|place| {
            let mut answer = place.answer;
            if answer.offset >= 0 {
                // Version 0 has a list of offsets in place of one.
                answer.old_style_offsets.push(answer.offset);
            }
            answer
        });
        let topics = std::mem::take(&mut self.names).into_iter().map(|(name, count)| Topic {
            name,
            partitions: partitions.by_ref().take(count).collect(),
        });
        let response = Response { throttle_time_ms: 0, topics: topics.collect() };
        env.send(self.reply, |w, v| response.encode(w, v));
    }

    /// True if the search of this place goes on.
    fn search_on(
        &mut self,
        index: usize,
        located: Option<(u64, i64)>,
        env: &mut Env<'_, '_>,
    ) -> bool {
        let Some(place) = self.places.answers.get_mut(index) else { return false };
        let (Some(search), Some(stream)) = (&mut place.search, place.stream) else { return false };
        if search.step(located) {
            let timestamp = Timestamp(search.asked);
            env.request(Ask::Locate { token: self.op.token_at(index), stream, timestamp });
            return true;
        }
        if let Some((offset, timestamp)) = search.found {
            place.take_record(offset, timestamp);
        }
        place.search = None;
        false
    }
}

impl Operation for ListOffsets {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let (token, result) = match event {
            Event::Bounds { token, result } => (token, result.map(Found::Bounds)),
            Event::Located { token, result } => (token, result.map(Found::Record)),
            _ => return false,
        };
        let index = Op::index(token);
        if let (Ok(Found::Record(located)), Some(place)) = (&result, self.places.answers.get(index))
        {
            let located = located.map(|(offset, timestamp)| (offset, timestamp.0));
            if place.search.is_some() {
                if self.search_on(index, located, env) {
                    return false;
                }
                return self.close(token, None, env);
            }
        }
        self.close(token, Some(result.map_err(ErrorCode::from)), env)
    }
}

enum Found {
    Bounds(StreamBounds),
    Record(Option<(u64, Timestamp)>),
}

impl ListOffsets {
    /// Counts a place as answered, with `result` unless it has its answer already.
    fn close(
        &mut self,
        token: u64,
        result: Option<Result<Found, ErrorCode>>,
        env: &mut Env<'_, '_>,
    ) -> bool {
        let Some((place, last)) = self.places.take(token) else { return false };
        match result {
            Some(Ok(Found::Bounds(bounds))) => place.take_bounds(bounds),
            Some(Ok(Found::Record(Some((offset, timestamp))))) => {
                place.take_record(offset, timestamp.0)
            }
            Some(Err(error)) => place.answer.error_code = error.code(),
            Some(Ok(Found::Record(None))) | None => {}
        }
        if last {
            self.answer(env);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine's answer over records with these timestamps.
    fn locate(timestamps: &[i64], asked: i64) -> Option<(u64, i64)> {
        let found = timestamps.iter().position(|timestamp| *timestamp >= asked)?;
        Some((found as u64, timestamps[found]))
    }

    fn check(timestamps: &[i64], expect: Option<(u64, i64)>) {
        let mut search = Search::start(1000);
        let mut steps = 0;
        while search.step(locate(timestamps, search.asked)) {
            steps += 1;
            assert!(steps < 70, "the search does not end");
        }
        assert_eq!(search.found, expect, "{timestamps:?}");
    }

    #[test]
    fn the_largest_timestamp_is_found_by_halving() {
        check(&[], None);
        check(&[-1], None);
        check(&[0], Some((0, 0)));
        check(&[5, 900, 30], Some((1, 900)));
        check(&[5, 900, 30, 900], Some((1, 900)));
        check(&[5, 2000, 30, 5000], Some((3, 5000)));
        check(&[i64::MAX - 1], Some((0, i64::MAX - 1)));
    }
}
