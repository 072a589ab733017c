//! A leader that was replaced and has not heard of it says nothing that another has made untrue.

use super::*;
use koine_broker::batch::{BatchBuilder, BatchHeader};

const PRODUCER: i64 = 7;

/// The leader of all groups does not run while another takes its place and does `meanwhile`. It goes on
/// afterwards, and has heard nothing yet.
fn stop(cluster: &mut Cluster, leader: usize, meanwhile: impl FnOnce(&mut Cluster)) {
    let stopped = cluster.nodes[leader].take();
    cluster.sides = vec![(0..3).filter(|node| *node != leader).collect()];
    meanwhile(cluster);
    cluster.sides = vec![vec![0, 1, 2]];
    cluster.nodes[leader] = stopped;
}

/// One record, as an idempotent producer sends it.
fn append_once(stream: StreamId, sequence: i32) -> Request {
    let mut builder = BatchBuilder::new(5);
    builder.set_producer(PRODUCER, 0, sequence);
    builder.push(5, None, Some(&[b"x"]), &[]);
    let batch = builder.finish(0, 0);
    let info = BatchHeader::new(&batch).and_then(|header| header.info()).expect("just built");
    Request::Append { token: Some(3), stream, batch, info }
}

impl Cluster {
    fn append_once(&mut self, client: &Client, stream: StreamId, sequence: i32) -> Option<Refusal> {
        match &self.answer(client, append_once(stream, sequence))[..] {
            [Event::Appended { token: 3, result }] => result.as_ref().err().copied(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_batch_that_follows_what_another_leader_took_is_not_called_out_of_order() {
    for seed in 0..3 {
        let mut cluster = Cluster::new(seed, 3, 3);
        let leader = cluster.gather();
        let client = cluster.connect(leader);
        let stream = cluster.queue(&client, "q");
        assert_eq!(cluster.append_once(&client, stream, 0), None);
        assert_eq!(
            cluster.append_once(&client, stream, 5),
            Some(Refusal::OutOfOrderSequence),
            "a leader that has the mandate knows"
        );
        stop(&mut cluster, leader, |cluster| {
            let (next, _) = cluster.elect(DATA);
            let client = cluster.connect(next);
            assert_eq!(cluster.append_once(&client, stream, 1), None);
        });
        assert_eq!(cluster.append_once(&client, stream, 2), Some(Refusal::NotLeader));
    }
}

fn retain(body: &'static [u8]) -> Command {
    let content = Content {
        origin: Origin::Mqtt,
        envelope: Bytes::from_static(b"envelope"),
        key: None,
        body: Some(Bytes::from_static(body)),
        timestamp: Timestamp(5),
    };
    let (topic, content) = ("r".to_owned(), Some(content.encode().to_vec()));
    Command::Retain { namespace: NAMESPACE, topic, content, qos: 1, expires_at: None }
}

impl Cluster {
    fn retain(&mut self, client: &Client, body: &'static [u8]) {
        let answer = self.answer(client, Request::Propose { token: 1, command: retain(body) });
        assert!(matches!(&answer[..], [Event::Proposed { result: Ok(_), .. }]), "{answer:?}");
    }

    fn retained(&mut self, client: &Client) -> Result<Vec<Bytes>, Refusal> {
        let filter = "#".to_owned();
        let request = Request::Retained { token: 2, namespace: NAMESPACE, filter, after: None };
        match self.answer(client, request).pop() {
            Some(Event::Retained { token: 2, result }) => result.map(|page| {
                page.messages.into_iter().filter_map(|message| message.content.body).collect()
            }),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_another_leader_retained_is_not_missing_here() {
    for seed in 0..3 {
        let mut cluster = Cluster::new(seed, 3, 3);
        let leader = cluster.gather();
        let client = cluster.connect(leader);
        cluster.retain(&client, b"old");
        assert_eq!(cluster.retained(&client), Ok(vec![Bytes::from_static(b"old")]));
        stop(&mut cluster, leader, |cluster| {
            let (next, _) = cluster.elect(GroupId::METADATA);
            let client = cluster.connect(next);
            cluster.retain(&client, b"new");
            assert_eq!(cluster.retained(&client), Ok(vec![Bytes::from_static(b"new")]));
        });
        assert_eq!(cluster.retained(&client), Err(Refusal::NotLeader));
    }
}

#[test]
fn a_batch_does_not_overtake_the_first_one_that_was_lost_with_its_leader() {
    let mut cluster = Cluster::new(1, 3, 3);
    let leader = cluster.gather();
    let client = cluster.connect(leader);
    let stream = cluster.queue(&client, "q");
    cluster.sides = vec![(0..3).filter(|node| *node != leader).collect(), vec![leader]];
    cluster.ask(&client, append_once(stream, 0));
    cluster.run_ms(1000);
    let (next, _) = cluster.elect(DATA);
    let client = cluster.connect(next);
    let early = cluster.append_once(&client, stream, 1);
    assert_eq!(early, Some(Refusal::OutOfOrderSequence));
    assert_eq!(cluster.append_once(&client, stream, 0), None);
    assert_eq!(cluster.append_once(&client, stream, 1), None);
}
