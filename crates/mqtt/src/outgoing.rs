//! What the client was sent with QoS 1 and 2, until it acknowledges. Gives out packet identifiers and
//! keeps the client's receive maximum; knows no bytes.
//!
//! The identifier of a delivery from the session's own backlog is computed from its offset, so that a
//! resumed session sends again under the same identifier without keeping anything else
//! (MQTT 5 §4.4). The backlog's cursor never hands out offsets further apart than there are
//! identifiers. What comes from shared subscriptions has no such bond and takes identifiers from the
//! upper half.

use koine_base::StreamId;
use koine_broker::session::{ConsumerId, Delivery, OffsetRange, Settlement};
use std::collections::{BTreeMap, VecDeque};

/// Identifiers of the backlog: 1 to this. Also the most that its cursor may span.
pub const BACKLOG_IDENTIFIERS: u64 = 32_767;

/// The first identifier for shared subscriptions; the last is 65,535.
const SHARED_FIRST: u16 = 32_768;

/// Deliveries of QoS 1 and 2 on their way to one client, however large its receive maximum. Enough
/// to fill a 1 ms round trip at 500,000 messages a second.
pub const IN_FLIGHT_MAX: u16 = 512;

/// What a shared subscription holds back for one member: small, so that members take turns.
pub const SHARED_CREDIT_MAX: u32 = 32;

/// The backlog starts with this much credit and gets more as output drains: large messages must not
/// all be read at once.
pub const BACKLOG_CREDIT_FIRST: u32 = 32;

const _: () = assert!((IN_FLIGHT_MAX as u64) < BACKLOG_IDENTIFIERS);
const _: () = assert!(IN_FLIGHT_MAX < u16::MAX - SHARED_FIRST);

/// The identifier of a backlog delivery.
pub fn identifier_of_offset(offset: u64) -> u16 {
    // Below 32,768 by the remainder.
    (offset % BACKLOG_IDENTIFIERS) as u16 + 1
}

/// What the client is to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    Puback,
    Pubrec,
    /// Nothing yet: PUBREC came, and PUBREL follows once that is durable. Sent earlier, a crash could
    /// make us send the PUBLISH again to a client that has forgotten its identifier.
    Nothing,
    Pubcomp,
}

/// One unacknowledged delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    pub packet_identifier: u16,
    pub awaited: Awaited,
    /// Where it came from; `None` for an identifier left over from an earlier connection.
    pub origin: Option<(ConsumerId, u64)>,
}

/// Where a consumer's deliveries come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The session's own backlog.
    Backlog,
    /// `$share/...`, as subscribed.
    Shared { topic_filter: String },
}

#[derive(Debug)]
pub struct Consumer {
    pub stream: StreamId,
    pub source: Source,
    /// Credit that the engine holds plus deliveries not settled.
    outstanding: u32,
    credit_max: u32,
    stopped: bool,
    acked: Vec<u64>,
    halved: Vec<u64>,
    released: Vec<u64>,
    /// Identifiers whose PUBREL waits for the settlements asked for so far.
    unsynced: Vec<u16>,
    /// Those that the sync under way is for.
    syncing: Vec<u16>,
}

/// The engine is to be told this.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    Settle {
        stream: StreamId,
        consumer: ConsumerId,
        ranges: Vec<OffsetRange>,
        settlement: Settlement,
    },
    Credit {
        stream: StreamId,
        consumer: ConsumerId,
        add: u32,
    },
    /// Tell when all that was settled is durable.
    Sync {
        stream: StreamId,
        consumer: ConsumerId,
    },
    Detach {
        stream: StreamId,
        consumer: ConsumerId,
    },
}

#[derive(Debug, Default)]
pub struct Outgoing {
    window: usize,
    consumers: BTreeMap<ConsumerId, Consumer>,
    next_consumer: ConsumerId,
    backlog: Option<ConsumerId>,
    in_flight: VecDeque<InFlight>,
    waiting: VecDeque<(ConsumerId, Delivery)>,
    shared: SharedIdentifiers,
    /// Consumers with something for [`Self::orders`].
    touched: bool,
}

impl Outgoing {
    /// `receive_maximum` is the client's.
    pub fn new(receive_maximum: u16) -> Outgoing {
        Outgoing {
            window: usize::from(receive_maximum.min(IN_FLIGHT_MAX)),
            next_consumer: 1,
            ..Outgoing::default()
        }
    }

    /// The client was not sent what the identifier was meant for.
    pub fn unused(&mut self, packet_identifier: u16) {
        if packet_identifier >= SHARED_FIRST {
            self.shared.give_back(packet_identifier);
        }
    }

    pub fn is_backlog(&self, id: ConsumerId) -> bool {
        self.backlog == Some(id)
    }

    pub fn has_backlog(&self) -> bool {
        self.backlog.is_some()
    }

    pub fn consumer(&self, id: ConsumerId) -> Option<&Consumer> {
        self.consumers.get(&id)
    }

    pub fn shared_consumer(&self, topic_filter: &str) -> Option<ConsumerId> {
        let mut all = self.consumers.iter();
        let found = all.find(|(_, consumer)| {
            let Source::Shared { topic_filter: own } = &consumer.source else { return false };
            own == topic_filter && !consumer.stopped
        });
        found.map(|(id, _)| *id)
    }

    /// Adds a consumer that is to be attached without credit.
    pub fn add(&mut self, stream: StreamId, source: Source) -> ConsumerId {
        let id = self.next_consumer;
        self.next_consumer += 1;
        let window = u32::try_from(self.window).unwrap_or(u32::MAX);
        let credit_max = match source {
            Source::Backlog => {
                self.backlog = Some(id);
                window
            }
            Source::Shared { .. } => window.min(SHARED_CREDIT_MAX),
        };
        let consumer = Consumer {
            stream,
            source,
            outstanding: 0,
            credit_max,
            stopped: false,
            acked: Vec::new(),
            halved: Vec::new(),
            released: Vec::new(),
            unsynced: Vec::new(),
            syncing: Vec::new(),
        };
        self.consumers.insert(id, consumer);
        id
    }

    /// The consumer is attached. `half` are backlog offsets whose PUBREL has to be sent again.
    pub fn attached(&mut self, id: ConsumerId, half: &[u64]) -> Option<u32> {
        let consumer = self.consumers.get_mut(&id)?;
        for offset in half {
            self.in_flight.push_back(InFlight {
                packet_identifier: identifier_of_offset(*offset),
                awaited: Awaited::Pubcomp,
                origin: Some((id, *offset)),
            });
        }
        let held = u32::try_from(half.len()).unwrap_or(u32::MAX);
        let credit = consumer.credit_max.min(BACKLOG_CREDIT_FIRST).saturating_sub(held);
        consumer.outstanding = held.saturating_add(credit);
        // A full window of half-settled offsets opens as they complete.
        Some(credit)
    }

    /// The consumer is gone. There is nothing to wait for any more: the PUBRELs to send.
    pub fn remove(&mut self, id: ConsumerId) -> Vec<u16> {
        if self.backlog == Some(id) {
            self.backlog = None;
        }
        self.waiting.retain(|(consumer, _)| *consumer != id);
        let Some(consumer) = self.consumers.remove(&id) else { return Vec::new() };
        self.release_packets([consumer.syncing, consumer.unsynced].concat())
    }

    /// An identifier from an earlier connection that the client is to release.
    pub fn resume_unreleased(&mut self, packet_identifier: u16) {
        self.shared.take(packet_identifier);
        self.in_flight.push_back(InFlight {
            packet_identifier,
            awaited: Awaited::Pubcomp,
            origin: None,
        });
    }

    /// The client may be sent one more publish of QoS 1 or 2.
    pub fn has_room(&self) -> bool {
        self.in_flight.len() < self.window
    }

    /// Keeps a delivery until there is room. Bounded by the credit given.
    pub fn wait(&mut self, id: ConsumerId, delivery: Delivery) {
        self.waiting.push_back((id, delivery));
    }

    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next delivery to send, if there is one and room for it.
    pub fn next_waiting(&mut self) -> Option<(ConsumerId, Delivery)> {
        if !self.has_room() {
            return None;
        }
        self.waiting.pop_front()
    }

    /// The identifier for a delivery that is about to be sent.
    pub fn identifier(&mut self, id: ConsumerId, offset: u64) -> u16 {
        if self.backlog == Some(id) {
            return identifier_of_offset(offset);
        }
        self.shared.next()
    }

    pub fn sent(&mut self, id: ConsumerId, offset: u64, packet_identifier: u16, awaited: Awaited) {
        let origin = Some((id, offset));
        self.in_flight.push_back(InFlight { packet_identifier, awaited, origin });
    }

    pub fn find(&self, packet_identifier: u16) -> Option<InFlight> {
        let index = self.position(packet_identifier)?;
        self.in_flight.get(index).copied()
    }

    /// Acknowledgements come in the order of the publishes, so the first look nearly always hits.
    fn position(&self, packet_identifier: u16) -> Option<usize> {
        self.in_flight.iter().position(|entry| entry.packet_identifier == packet_identifier)
    }

    /// The exchange is complete.
    pub fn complete(&mut self, packet_identifier: u16) {
        let Some(index) = self.position(packet_identifier) else { return };
        let Some(entry) = self.in_flight.remove(index) else { return };
        if packet_identifier >= SHARED_FIRST {
            self.shared.give_back(packet_identifier);
        }
        let settled = entry.is_shared_and_received();
        if let (Some((consumer, offset)), false) = (entry.origin, settled) {
            self.ack(consumer, offset);
        }
    }

    /// PUBREC came. A backlog offset becomes half-settled if the session outlives its connection; one
    /// of a shared subscription is the client's now. True if PUBREL may be sent at once.
    pub fn received(&mut self, packet_identifier: u16, durable: bool) -> bool {
        let Some(index) = self.position(packet_identifier) else { return false };
        let Some(entry) = self.in_flight.get_mut(index) else { return false };
        let is_shared = packet_identifier >= SHARED_FIRST;
        let consumer = entry.origin.and_then(|(id, _)| self.consumers.get_mut(&id));
        let (Some(consumer), Some((id, offset))) = (consumer, entry.origin) else {
            entry.awaited = Awaited::Pubcomp;
            return true;
        };
        if !is_shared && !durable {
            entry.awaited = Awaited::Pubcomp;
            return true;
        }
        entry.awaited = Awaited::Nothing;
        consumer.unsynced.push(packet_identifier);
        if is_shared {
            self.ack(id, offset);
        } else {
            consumer.halved.push(offset);
            self.touched = true;
        }
        false
    }

    /// The settlements of the sync under way are durable: the PUBRELs to send.
    pub fn synced(&mut self, id: ConsumerId) -> Vec<u16> {
        let Some(consumer) = self.consumers.get_mut(&id) else { return Vec::new() };
        let packets = std::mem::take(&mut consumer.syncing);
        self.touched = true;
        self.release_packets(packets)
    }

    fn release_packets(&mut self, mut packets: Vec<u16>) -> Vec<u16> {
        packets.retain(|packet| {
            let Some(index) = self.position(*packet) else { return false };
            let Some(entry) = self.in_flight.get_mut(index) else { return false };
            let waited = entry.awaited == Awaited::Nothing;
            if waited {
                entry.awaited = Awaited::Pubcomp;
            }
            waited
        });
        packets
    }

    /// The delivery needs nothing more.
    pub fn ack(&mut self, id: ConsumerId, offset: u64) {
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.acked.push(offset);
            consumer.outstanding = consumer.outstanding.saturating_sub(1);
            self.touched = true;
        }
    }

    /// A delivery that the client was not sent goes back.
    pub fn release(&mut self, id: ConsumerId, offset: u64) {
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.released.push(offset);
            consumer.outstanding = consumer.outstanding.saturating_sub(1);
            self.touched = true;
        }
    }

    /// The client has left it, or was made to.
    pub fn is_stopped(&self, id: ConsumerId) -> bool {
        self.consumers.get(&id).is_some_and(|consumer| consumer.stopped)
    }

    /// The engine gives the consumer nothing more: what waits goes back.
    pub fn stopped(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        self.waiting.retain(|(owner, delivery)| {
            if *owner == id {
                consumer.released.push(delivery.offset);
            }
            *owner != id
        });
        let mine = |entry: &&InFlight| {
            !entry.is_shared_and_received() && entry.origin.is_some_and(|(owner, _)| owner == id)
        };
        let held = self.in_flight.iter().filter(mine).count();
        consumer.outstanding = u32::try_from(held).unwrap_or(u32::MAX);
        self.touched = true;
    }

    pub fn stop(&mut self, id: ConsumerId) -> Option<StreamId> {
        let consumer = self.consumers.get_mut(&id)?;
        consumer.stopped = true;
        Some(consumer.stream)
    }

    /// Identifiers under which the client may hold something of a shared subscription.
    pub fn unreleased(&self) -> impl Iterator<Item = u16> + '_ {
        let open = |entry: &&InFlight| {
            entry.packet_identifier >= SHARED_FIRST && entry.awaited != Awaited::Puback
        };
        self.in_flight.iter().filter(open).map(|entry| entry.packet_identifier)
    }

    /// The identifiers whose PUBREL has to be sent when a session is resumed.
    pub fn awaiting_pubcomp(&self, id: ConsumerId) -> impl Iterator<Item = u16> + '_ {
        let mine = move |entry: &&InFlight| {
            let of_consumer = entry.origin.is_some_and(|(owner, _)| owner == id);
            of_consumer && entry.awaited == Awaited::Pubcomp
        };
        self.in_flight.iter().filter(mine).map(|entry| entry.packet_identifier)
    }

    /// True if more credit would be given if the output were drained.
    pub fn owes_credit(&self) -> bool {
        self.consumers.values().any(|consumer| consumer.credit_owed() > 0)
    }

    /// What the engine has to be told since the last call. With `more`, credit is topped up.
    pub fn orders(&mut self, more: bool, mut order: impl FnMut(Order)) {
        if !self.touched {
            return;
        }
        let mut owed = false;
        let mut gone = Vec::new();
        for (id, consumer) in &mut self.consumers {
            consumer.settle(*id, &mut order);
            let (stream, consumer_id) = (consumer.stream, *id);
            consumer.sync(consumer_id, &mut order);
            if consumer.stopped && consumer.outstanding == 0 && consumer.syncing.is_empty() {
                gone.push(consumer_id);
                order(Order::Detach { stream, consumer: consumer_id });
                continue;
            }
            let add = consumer.credit_owed();
            if add > 0 && more {
                consumer.outstanding += add;
                order(Order::Credit { stream, consumer: consumer_id, add });
            }
            owed |= add > 0 && !more;
        }
        self.touched = owed;
        for id in gone {
            self.remove(id);
        }
    }

    /// A delivery arrived: there may be reason to top up.
    pub fn touch(&mut self) {
        self.touched = true;
    }
}

impl InFlight {
    /// A shared delivery of QoS 2 is settled with its PUBREC.
    fn is_shared_and_received(&self) -> bool {
        let received = matches!(self.awaited, Awaited::Nothing | Awaited::Pubcomp);
        received && self.packet_identifier >= SHARED_FIRST
    }
}

impl Consumer {
    /// One sync at a time; it covers all that came up before it.
    fn sync(&mut self, id: ConsumerId, order: &mut impl FnMut(Order)) {
        if self.syncing.is_empty() && !self.unsynced.is_empty() {
            self.syncing = std::mem::take(&mut self.unsynced);
            order(Order::Sync { stream: self.stream, consumer: id });
        }
    }

    /// Gives credit back in steps, not one by one, unless nothing is outstanding.
    fn credit_owed(&self) -> u32 {
        if self.stopped {
            return 0;
        }
        let owed = self.credit_max.saturating_sub(self.outstanding);
        let step = (self.credit_max / 4).max(1);
        if owed >= step {
            owed
        } else {
            0
        }
    }

    fn settle(&mut self, id: ConsumerId, order: &mut impl FnMut(Order)) {
        // Half before acked: an offset may be in both.
        let lists = [
            (&mut self.halved, Settlement::Half),
            (&mut self.acked, Settlement::Ack),
            (&mut self.released, Settlement::Release),
        ];
        for (offsets, settlement) in lists {
            if offsets.is_empty() {
                continue;
            }
            let ranges = ranges_of(offsets);
            offsets.clear();
            order(Order::Settle { stream: self.stream, consumer: id, ranges, settlement });
        }
    }
}

fn ranges_of(offsets: &mut [u64]) -> Vec<OffsetRange> {
    if !offsets.is_sorted() {
        offsets.sort_unstable();
    }
    let mut ranges: Vec<OffsetRange> = Vec::new();
    for offset in offsets.iter().copied() {
        match ranges.last_mut() {
            Some((_, end)) if offset == *end + 1 => *end = offset,
            _ => ranges.push((offset, offset)),
        }
    }
    ranges
}

/// The upper half of the identifiers, given out in turn.
#[derive(Debug, Default)]
struct SharedIdentifiers {
    /// Distance of the next candidate from [`SHARED_FIRST`].
    next: u16,
    /// One bit each; empty until the first is taken.
    used: Vec<u64>,
}

const SHARED_COUNT: u16 = u16::MAX - SHARED_FIRST + 1;

impl SharedIdentifiers {
    fn bit(packet_identifier: u16) -> (usize, u64) {
        let index = packet_identifier - SHARED_FIRST;
        (usize::from(index / 64), 1 << (index % 64))
    }

    fn take(&mut self, packet_identifier: u16) {
        if packet_identifier < SHARED_FIRST {
            return;
        }
        if self.used.is_empty() {
            self.used = vec![0; usize::from(SHARED_COUNT) / 64];
        }
        let (word, bit) = Self::bit(packet_identifier);
        self.used[word] |= bit;
    }

    fn give_back(&mut self, packet_identifier: u16) {
        let (word, bit) = Self::bit(packet_identifier);
        if let Some(used) = self.used.get_mut(word) {
            *used &= !bit;
        }
    }

    /// There is always a free one: fewer than [`IN_FLIGHT_MAX`] and what is left from an earlier
    /// connection are in use.
    fn next(&mut self) -> u16 {
        for _ in 0..SHARED_COUNT {
            let candidate = SHARED_FIRST + self.next;
            self.next = (self.next + 1) % SHARED_COUNT;
            let (word, bit) = Self::bit(candidate);
            if self.used.get(word).is_none_or(|used| used & bit == 0) {
                self.take(candidate);
                return candidate;
            }
        }
        unreachable!("32,768 identifiers for at most 512 deliveries in flight")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> StreamId {
        StreamId::from_raw(3)
    }

    fn orders(outgoing: &mut Outgoing) -> Vec<Order> {
        let mut all = Vec::new();
        outgoing.orders(true, |order| all.push(order));
        all
    }

    fn settle(consumer: ConsumerId, ranges: &[OffsetRange], settlement: Settlement) -> Order {
        Order::Settle { stream: stream(), consumer, ranges: ranges.to_vec(), settlement }
    }

    #[test]
    fn identifiers_follow_offsets_and_are_never_zero() {
        assert_eq!(identifier_of_offset(0), 1);
        assert_eq!(identifier_of_offset(32_766), 32_767);
        assert_eq!(identifier_of_offset(32_767), 1);
        let last = identifier_of_offset(u64::MAX);
        assert!((1..=32_767).contains(&last));
    }

    #[test]
    fn acknowledgements_become_ranges_and_credit() {
        let mut outgoing = Outgoing::new(8);
        let id = outgoing.add(stream(), Source::Backlog);
        assert_eq!(outgoing.attached(id, &[]), Some(8));
        for offset in [0, 1, 2, 4] {
            let packet = outgoing.identifier(id, offset);
            outgoing.sent(id, offset, packet, Awaited::Puback);
        }
        assert!(outgoing.has_room());
        for packet in [2, 1, 5, 3] {
            assert!(outgoing.find(packet).is_some());
            outgoing.complete(packet);
            assert!(outgoing.find(packet).is_none());
        }
        assert_eq!(
            orders(&mut outgoing),
            [
                settle(id, &[(0, 2), (4, 4)], Settlement::Ack),
                Order::Credit { stream: stream(), consumer: id, add: 4 },
            ]
        );
        assert_eq!(orders(&mut outgoing), []);
    }

    #[test]
    fn exactly_once_from_the_backlog_is_half_settled_in_between() {
        let mut outgoing = Outgoing::new(4);
        let id = outgoing.add(stream(), Source::Backlog);
        assert_eq!(outgoing.attached(id, &[7]), Some(3));
        assert_eq!(outgoing.awaiting_pubcomp(id).collect::<Vec<_>>(), [8]);
        outgoing.sent(id, 9, 10, Awaited::Pubrec);
        assert!(!outgoing.received(10, true));
        assert_eq!(outgoing.find(10).map(|entry| entry.awaited), Some(Awaited::Nothing));
        let sync = Order::Sync { stream: stream(), consumer: id };
        assert_eq!(orders(&mut outgoing), [settle(id, &[(9, 9)], Settlement::Half), sync]);
        assert_eq!(outgoing.synced(id), [10]);
        assert_eq!(outgoing.find(10).map(|entry| entry.awaited), Some(Awaited::Pubcomp));
        assert_eq!(outgoing.synced(id), []);
        outgoing.complete(8);
        outgoing.complete(10);
        let all = orders(&mut outgoing);
        assert_eq!(all[0], settle(id, &[(7, 7), (9, 9)], Settlement::Ack));
    }

    #[test]
    fn shared_deliveries_take_identifiers_of_their_own() {
        let mut outgoing = Outgoing::new(4);
        let source = Source::Shared { topic_filter: "$share/g/a".to_owned() };
        let id = outgoing.add(stream(), source);
        assert_eq!(outgoing.shared_consumer("$share/g/a"), Some(id));
        outgoing.attached(id, &[]);
        outgoing.resume_unreleased(32_768);
        let packet = outgoing.identifier(id, 70);
        assert_eq!(packet, 32_769);
        outgoing.sent(id, 70, packet, Awaited::Pubrec);
        assert_eq!(outgoing.unreleased().collect::<Vec<_>>(), [32_768, 32_769]);
        assert!(!outgoing.received(packet, true));
        assert_eq!(orders(&mut outgoing)[0], settle(id, &[(70, 70)], Settlement::Ack));
        assert_eq!(outgoing.synced(id), [packet]);
        outgoing.complete(packet);
        outgoing.complete(32_768);
        assert_eq!(orders(&mut outgoing), [], "settled with its PUBREC");
        assert_eq!(outgoing.unreleased().count(), 0);
    }

    #[test]
    fn one_sync_at_a_time_and_none_for_sessions_that_end() {
        let mut outgoing = Outgoing::new(8);
        let id = outgoing.add(stream(), Source::Backlog);
        outgoing.attached(id, &[]);
        for offset in 0..4 {
            outgoing.sent(id, offset, identifier_of_offset(offset), Awaited::Pubrec);
        }
        let syncs = |outgoing: &mut Outgoing| {
            let all = orders(outgoing);
            all.iter().filter(|order| matches!(order, Order::Sync { .. })).count()
        };
        assert!(!outgoing.received(1, true));
        assert_eq!(syncs(&mut outgoing), 1);
        assert!(!outgoing.received(2, true));
        assert_eq!(syncs(&mut outgoing), 0);
        assert_eq!(outgoing.synced(id), [1]);
        assert_eq!(syncs(&mut outgoing), 1);
        assert!(outgoing.received(3, false));
        assert!(!outgoing.received(4, true));
        assert_eq!(outgoing.remove(id), [2, 4], "nothing is left to wait for");
    }

    #[test]
    fn identifiers_wrap_round_and_skip_those_in_use() {
        let mut shared = SharedIdentifiers::default();
        let first = shared.next();
        for _ in 1..SHARED_COUNT {
            let packet = shared.next();
            shared.give_back(packet);
        }
        assert_eq!(shared.next(), first + 1);
    }

    #[test]
    fn a_stopped_consumer_is_detached_when_it_holds_nothing() {
        let mut outgoing = Outgoing::new(4);
        let source = Source::Shared { topic_filter: "$share/g/a".to_owned() };
        let id = outgoing.add(stream(), source);
        outgoing.attached(id, &[]);
        let packet = outgoing.identifier(id, 1);
        outgoing.sent(id, 1, packet, Awaited::Puback);
        outgoing.stop(id);
        assert_eq!(outgoing.shared_consumer("$share/g/a"), None);
        outgoing.stopped(id);
        assert_eq!(orders(&mut outgoing), []);
        outgoing.complete(packet);
        assert_eq!(
            orders(&mut outgoing),
            [
                settle(id, &[(1, 1)], Settlement::Ack),
                Order::Detach { stream: stream(), consumer: id },
            ]
        );
        assert!(outgoing.consumer(id).is_none());
    }
}
