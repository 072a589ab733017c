//! Fetch sessions (KIP-227): the partitions a consumer reads are remembered, so that its requests and
//! our answers carry only what changed. Pure bookkeeping: reads nothing and knows no broker.
//!
//! One connection has at most one session, because a consumer has one fetch connection per broker. A
//! session does not outlive its connection: after a reconnect the client is told that the session is
//! unknown and starts a full one.

use crate::codec::fetch::{Forgotten, Partition, PartitionWanted, Request, TopicWanted};
use crate::error::ErrorCode;
use std::collections::{BTreeMap, HashMap};

/// Partitions in one session. A request with more is served without a session.
pub const SESSION_PARTITIONS_MAX: usize = 10_000;

/// A topic as the request names it: by name before version 13, by id from there on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicRef {
    Name(String),
    Id([u8; 16]),
}

impl TopicRef {
    fn of(name: &str, id: [u8; 16], version: i16) -> Self {
        if version >= 13 {
            TopicRef::Id(id)
        } else {
            TopicRef::Name(name.to_string())
        }
    }
}

/// One partition to read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub topic: TopicRef,
    pub wanted: PartitionWanted,
}

/// How the answer is to be cut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Goes into the response; 0 for no session.
    pub session_id: i32,
    /// Leave out partitions with nothing new.
    pub incremental: bool,
}

#[derive(Debug)]
struct Entry {
    topic: TopicRef,
    wanted: PartitionWanted,
    /// What the client was told last; `None` before the first answer.
    told: Option<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start_offset: i64,
}

/// The session of a connection, if it has one.
#[derive(Debug, Default)]
pub struct FetchSession {
    /// 0 while there is none.
    id: i32,
    /// The epoch that the next request must carry.
    epoch_next: i32,
    by_ids: bool,
    /// In the order of reading: what gave records goes to the end, so that the others get their turn.
    entries: BTreeMap<u64, Entry>,
    places: HashMap<(TopicRef, i32), u64>,
    place_next: u64,
}

/// -1 asks for no session, or ends the named one.
const EPOCH_FINAL: i32 = -1;
/// 0 asks for a new session.
const EPOCH_INITIAL: i32 = 0;

impl FetchSession {
    /// Takes in a request. `fresh_id` is what a new session is called; it must be positive and differ
    /// from ids that other connections of the client may have got.
    pub fn plan(
        &mut self,
        request: &Request<'_>,
        version: i16,
        fresh_id: i32,
    ) -> Result<(Plan, Vec<Target>), ErrorCode> {
        if request.session_epoch == EPOCH_FINAL || request.session_epoch == EPOCH_INITIAL {
            // A full request replaces the session that it names; one that names a session of an
            // earlier connection is a full request all the same.
            if request.session_id == self.id || request.session_epoch == EPOCH_INITIAL {
                *self = FetchSession::default();
            }
            let targets = full_targets(&request.topics, version);
            let session = request.session_epoch == EPOCH_INITIAL
                && !targets.is_empty()
                && targets.len() <= SESSION_PARTITIONS_MAX;
            if !session {
                return Ok((Plan { session_id: 0, incremental: false }, targets));
            }
            self.id = fresh_id;
            self.epoch_next = 1;
            self.by_ids = version >= 13;
            for target in &targets {
                self.put(target.topic.clone(), target.wanted);
            }
            return Ok((Plan { session_id: self.id, incremental: false }, targets));
        }
        if request.session_id == 0 || request.session_id != self.id {
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        if request.session_epoch != self.epoch_next {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if self.by_ids != (version >= 13) {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        self.epoch_next = if self.epoch_next == i32::MAX { 1 } else { self.epoch_next + 1 };
        self.update(&request.topics, &request.forgotten, version);
        if self.entries.len() > SESSION_PARTITIONS_MAX {
            *self = FetchSession::default();
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        let targets = self
            .entries
            .values()
            .map(|entry| Target { topic: entry.topic.clone(), wanted: entry.wanted })
            .collect();
        Ok((Plan { session_id: self.id, incremental: true }, targets))
    }

    fn update(&mut self, topics: &[TopicWanted<'_>], forgotten: &[Forgotten<'_>], version: i16) {
        for topic in forgotten {
            let name = TopicRef::of(topic.topic, topic.topic_id, version);
            for partition in &topic.partitions {
                if let Some(place) = self.places.remove(&(name.clone(), *partition)) {
                    self.entries.remove(&place);
                }
            }
        }
        for target in full_targets(topics, version) {
            self.put(target.topic, target.wanted);
        }
    }

    /// Adds a partition at the end, or changes where it is read from.
    fn put(&mut self, topic: TopicRef, wanted: PartitionWanted) {
        let key = (topic.clone(), wanted.partition);
        if let Some(entry) = self.places.get(&key).and_then(|place| self.entries.get_mut(place)) {
            entry.wanted = wanted;
            return;
        }
        let place = self.place_next;
        self.place_next += 1;
        self.places.insert(key, place);
        self.entries.insert(place, Entry { topic, wanted, told: None });
    }

    /// Says whether `answer` belongs into the response of `plan`, and remembers what it tells.
    /// Must be asked once for every partition of every answer of a session.
    pub fn admit(&mut self, plan: Plan, topic: &TopicRef, answer: &Partition) -> bool {
        if plan.session_id == 0 || plan.session_id != self.id {
            return true;
        }
        let key = (topic.clone(), answer.partition_index);
        let Some(place) = self.places.get(&key).copied() else {
            return true;
        };
        let Some(entry) = self.entries.get_mut(&place) else {
            return true;
        };
        let now = Told {
            high_watermark: answer.high_watermark,
            log_start_offset: answer.log_start_offset,
        };
        let failed = answer.error_code != ErrorCode::None.code();
        let has_records = !answer.records.is_empty();
        let news =
            failed || has_records || answer.diverging_epoch.is_some() || entry.told != Some(now);
        // An error is told again as long as it lasts.
        entry.told = if failed { None } else { Some(now) };
        if has_records {
            if let Some(entry) = self.entries.remove(&place) {
                let last = self.place_next;
                self.place_next += 1;
                self.places.insert(key, last);
                self.entries.insert(last, entry);
            }
        }
        news || !plan.incremental
    }
}

fn full_targets(topics: &[TopicWanted<'_>], version: i16) -> Vec<Target> {
    let mut targets = Vec::new();
    for topic in topics {
        let name = TopicRef::of(topic.topic, topic.topic_id, version);
        targets.extend(
            topic.partitions.iter().map(|wanted| Target { topic: name.clone(), wanted: *wanted }),
        );
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn wanted(partition: i32, fetch_offset: i64) -> PartitionWanted {
        PartitionWanted {
            partition,
            current_leader_epoch: -1,
            fetch_offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 1 << 20,
        }
    }

    fn request<'a>(session_id: i32, session_epoch: i32, partitions: &[(i32, i64)]) -> Request<'a> {
        let partitions: Vec<_> = partitions.iter().map(|(p, offset)| wanted(*p, *offset)).collect();
        let topics = match partitions.is_empty() {
            true => Vec::new(),
            false => vec![TopicWanted { topic: "t", topic_id: [0; 16], partitions }],
        };
        Request {
            cluster_id: None,
            replica_id: -1,
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level: 0,
            session_id,
            session_epoch,
            topics,
            forgotten: Vec::new(),
            rack_id: "",
        }
    }

    fn answer(partition_index: i32, high_watermark: i64, records: &'static [u8]) -> Partition {
        let records = if records.is_empty() { vec![] } else { vec![Bytes::from_static(records)] };
        Partition { partition_index, high_watermark, records, ..Partition::default() }
    }

    fn partitions(targets: &[Target]) -> Vec<i32> {
        targets.iter().map(|target| target.wanted.partition).collect()
    }

    #[test]
    fn without_a_session_everything_is_answered() {
        let mut session = FetchSession::default();
        let (plan, targets) = session.plan(&request(0, -1, &[(0, 5)]), 12, 9).expect("accepted");
        assert_eq!(plan, Plan { session_id: 0, incremental: false });
        assert_eq!(partitions(&targets), [0]);
        assert!(session.admit(plan, &targets[0].topic, &answer(0, 1, b"")));
    }

    #[test]
    fn a_session_tells_only_news_and_takes_turns() {
        let mut session = FetchSession::default();
        let first = request(0, 0, &[(0, 5), (1, 5)]);
        let (plan, targets) = session.plan(&first, 12, 9).expect("accepted");
        assert_eq!(plan, Plan { session_id: 9, incremental: false });
        let topic = targets[0].topic.clone();
        assert!(session.admit(plan, &topic, &answer(0, 7, b"")));
        assert!(session.admit(plan, &topic, &answer(1, 7, b"")));

        let (plan, targets) = session.plan(&request(9, 1, &[]), 12, 10).expect("accepted");
        assert_eq!(plan, Plan { session_id: 9, incremental: true });
        assert_eq!(partitions(&targets), [0, 1]);
        assert!(session.admit(plan, &topic, &answer(0, 7, b"batch")));
        assert!(!session.admit(plan, &topic, &answer(1, 7, b"")));

        let (plan, targets) = session.plan(&request(9, 2, &[(0, 6)]), 12, 10).expect("accepted");
        assert_eq!(partitions(&targets), [1, 0]);
        assert_eq!(targets[1].wanted.fetch_offset, 6);
        assert!(session.admit(plan, &topic, &answer(1, 8, b"")));
        let failed = Partition { error_code: 3, ..answer(0, -1, b"") };
        assert!(session.admit(plan, &topic, &failed));
        let (plan, _) = session.plan(&request(9, 3, &[]), 12, 10).expect("accepted");
        assert!(session.admit(plan, &topic, &failed), "an error is repeated");
    }

    #[test]
    fn forgotten_partitions_leave() {
        let mut session = FetchSession::default();
        session.plan(&request(0, 0, &[(0, 5), (1, 5)]), 12, 9).expect("accepted");
        let mut next = request(9, 1, &[]);
        next.forgotten = vec![Forgotten { topic: "t", topic_id: [0; 16], partitions: vec![0, 77] }];
        let (_, targets) = session.plan(&next, 12, 9).expect("accepted");
        assert_eq!(partitions(&targets), [1]);
    }

    #[test]
    fn wrong_sessions_are_refused() {
        let mut session = FetchSession::default();
        session.plan(&request(0, 0, &[(0, 5)]), 12, 9).expect("accepted");
        let mut check = |id, epoch, version, expect| {
            let got = session.plan(&request(id, epoch, &[]), version, 10).map(|_| ());
            assert_eq!(got, Err(expect));
        };
        check(8, 1, 12, ErrorCode::FetchSessionIdNotFound);
        check(9, 2, 12, ErrorCode::InvalidFetchSessionEpoch);
        check(9, 1, 13, ErrorCode::FetchSessionTopicIdError);
        // The final epoch ends the session.
        session.plan(&request(9, -1, &[]), 12, 10).expect("accepted");
        let got = session.plan(&request(9, 1, &[]), 12, 10).map(|_| ());
        assert_eq!(got, Err(ErrorCode::FetchSessionIdNotFound));
    }

    #[test]
    fn too_many_partitions_get_no_session() {
        let mut session = FetchSession::default();
        let many: Vec<_> = (0..=SESSION_PARTITIONS_MAX as i32).map(|p| (p, 0)).collect();
        let (plan, targets) = session.plan(&request(0, 0, &many), 12, 9).expect("accepted");
        assert_eq!(plan.session_id, 0);
        assert_eq!(targets.len(), many.len());
    }
}
