//! How the whole state of a group comes to a follower over a network that delays and reorders.

use super::*;

/// Streams of the data groups; each is sent in a piece of its own.
const STREAMS: usize = 60;

#[test]
fn pieces_that_overtake_each_other_need_not_be_sent_again() {
    for seed in 0..3 {
        let mut cluster = Cluster::new(seed, 3, 3);
        let leader = cluster.gather();
        let client = cluster.connect(leader);
        let behind = (leader + 1) % 3;
        cluster.crash(behind, Survival::Nothing);
        for number in 0..STREAMS {
            let stream = cluster.queue(&client, &format!("q{number}"));
            let leader = cluster.elect(stream.group()).0;
            let client = cluster.connect(leader);
            assert_eq!(cluster.publish(&client, stream, "x"), Ok(()));
        }
        for node in (0..3).filter(|node| *node != behind) {
            cluster.forget_applied(node);
        }
        cluster.open(behind);
        let start = cluster.now.moment;
        let target = cluster.shard(leader).position(DATA).applied_index;
        while cluster.shard(behind).position(DATA).applied_index < target {
            cluster.run_ms(1);
            let took = cluster.now.moment.since(start).as_millis();
            assert!(took < 700, "seed {seed}: the state takes long to come");
        }
        assert!(cluster.shard(behind).groups[&DATA].incarnation > 0, "by log, not by state");
    }
}
