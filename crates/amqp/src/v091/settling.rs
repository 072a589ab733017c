//! Acks, rejects and releases on their way to the broker, joined into ranges: a client that
//! acknowledges a thousand deliveries one by one in one packet makes one request.

use koine_base::StreamId;
use koine_broker::session::{ConsumerId, OffsetRange, Output, Request, Settlement};

#[derive(Debug, Default)]
pub(super) struct Settling {
    /// In the order they were made. Few: one per consumer that was settled since the last flush.
    joined: Vec<Joined>,
}

#[derive(Debug)]
struct Joined {
    stream: StreamId,
    consumer: ConsumerId,
    settlement: Settlement,
    ranges: Vec<OffsetRange>,
}

impl Settling {
    pub(super) fn add(
        &mut self,
        stream: StreamId,
        consumer: ConsumerId,
        settlement: Settlement,
        offset: u64,
    ) {
        // An offset is settled once, so the order between entries of different kinds is free.
        let found = self.joined.iter_mut().rev().find(|joined| {
            joined.stream == stream
                && joined.consumer == consumer
                && joined.settlement == settlement
        });
        let Some(joined) = found else {
            let ranges = vec![(offset, offset)];
            self.joined.push(Joined { stream, consumer, settlement, ranges });
            return;
        };
        match joined.ranges.last_mut() {
            Some((_, last)) if *last + 1 == offset => *last = offset,
            _ => joined.ranges.push((offset, offset)),
        }
    }

    pub(super) fn flush(&mut self, out: &mut Output) {
        for joined in self.joined.drain(..) {
            let Joined { stream, consumer, settlement, ranges } = joined;
            out.request(Request::Settle { stream, consumer, ranges, settlement });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_base::GroupId;

    #[test]
    fn neighbours_are_joined_per_consumer_and_kind() {
        let stream = StreamId::new(GroupId(1), 1);
        let mut settling = Settling::default();
        for (consumer, settlement, offset) in [
            (1, Settlement::Ack, 5),
            (2, Settlement::Ack, 6),
            (1, Settlement::Ack, 6),
            (1, Settlement::Release, 7),
            (1, Settlement::Ack, 8),
        ] {
            settling.add(stream, consumer, settlement, offset);
        }
        let mut out = Output::default();
        settling.flush(&mut out);
        let seen: Vec<_> = out
            .requests
            .iter()
            .map(|request| match request {
                Request::Settle { consumer, ranges, settlement, .. } => {
                    (*consumer, *settlement, ranges.clone())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            seen,
            [
                (1, Settlement::Ack, vec![(5, 6), (8, 8)]),
                (2, Settlement::Ack, vec![(6, 6)]),
                (1, Settlement::Release, vec![(7, 7)]),
            ]
        );
        settling.flush(&mut out);
        assert_eq!(out.requests.len(), 3);
    }
}
