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
