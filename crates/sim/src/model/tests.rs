//! A checker that cannot fail proves nothing: each rule, kept and broken.

use super::*;
use koine_base::GroupId;

const A: Holder = (1, 1);
const B: Holder = (2, 1);

fn stream(kind: Kind) -> StreamModel {
    StreamModel::new(StreamId::new(GroupId(1), 0), "s".to_owned(), kind, true)
}

fn delivery(holder: Holder, offset: u64, redelivered: bool) -> Delivered {
    let (auto_settled, is_stale, serial) = (false, false, 0);
    Delivered { holder, offset, redelivered, auto_settled, is_stale, serial }
}

/// A queue with `count` acknowledged records, value n+1 at offset n.
fn queue(count: u64) -> StreamModel {
    let mut queue = stream(Kind::Queue);
    for offset in 0..count {
        queue.records.sent(offset + 1, 7);
        queue.records.acked(offset + 1, Some(offset), 5).expect("new");
    }
    queue
}

fn stop(end: u64, epoch: i32) -> Observed {
    Observed { start: 0, end, epoch }
}

fn broken(result: Checked, text: &str) {
    let error = result.expect_err(text);
    assert!(error.0.contains(text), "{error} does not say {text:?}");
}

#[test]
fn one_value_at_one_offset_and_only_what_was_sent() {
    let mut records = queue(3).records;
    assert_eq!(records.observe(1, 2), Ok(()));
    broken(records.observe(1, 3), "v3 is at 2 and at 1");
    broken(records.observe(3, 9), "never sent");
    records.sent(4, 7);
    broken(records.observe(2, 4), "holds v3 and v4");
    records.sent(5, 7);
    records.refused(5).expect("not seen");
    broken(records.observe(9, 5), "was refused");
    broken(records.refused(1), "was refused and lies at 0");
}

#[test]
fn a_batch_never_changes_but_by_being_lost() {
    let mut records = queue(3).records;
    assert_eq!(records.check_epoch(1, 3, 3), Ok(()));
    broken(records.check_epoch(1, 4, 3), "of epoch 4");
    broken(records.check_epoch(1, 0, 3), "of epoch 0");
    assert_eq!(records.observe_batch(1, 77), Ok(()));
    broken(records.observe_batch(1, 78), "is not what was read there before");
    records.doubt(0);
    records.recovered(stop(1, 2), false).expect("a relaxed stream");
    assert_eq!(records.observe_batch(1, 79), Ok(()), "the offset was given again");
}

#[test]
fn writers_keep_their_order_and_acknowledged_records_stay() {
    let mut records = records::Records::default();
    for (value, writer, offset) in [(1, 7, 0), (2, 8, 2), (3, 7, 1)] {
        records.sent(value, writer);
        records.acked(value, Some(offset), 0).expect("new");
    }
    assert_eq!(records.check_order(), Ok(()));
    let all = BTreeMap::from([(0, 1), (1, 3), (2, 2)]);
    assert_eq!(records.check_kept(&all), Ok(()));
    broken(records.check_kept(&BTreeMap::from([(0, 1), (2, 2)])), "v3 was acknowledged at 1");
    records.sent(4, 8);
    records.sent(5, 8);
    records.observe(3, 5).expect("new");
    records.observe(4, 4).expect("new");
    broken(records.check_order(), "v5 at 3 lies before v4 at 4");
    records.sent(6, 8);
    records.acked(6, None, 0).expect("new");
    broken(records.check_kept(&BTreeMap::from([(0, 1), (1, 3), (2, 2)])), "v6 was acknowledged");
}

#[test]
fn ends_and_epochs_never_go_back() {
    let mut records = queue(3).records;
    assert_eq!(records.bounds(stop(3, 1), 3, 1), Ok(()));
    broken(records.bounds(stop(2, 1), 3, 1), "the end went back");
    broken(records.bounds(stop(3, 0), 3, 1), "the epoch went back");
    broken(records.recovered(stop(2, 2), true).map(|_| ()), "the end was 3");
    broken(records.recovered(stop(3, 1), true).map(|_| ()), "epoch 1 after a restart");
    assert_eq!(records.recovered(stop(3, 2), true), Ok(false));
}

#[test]
fn a_relaxed_stream_loses_only_what_is_young() {
    let mut records = queue(3).records;
    broken(records.recovered(stop(2, 2), false).map(|_| ()), "long before the crash");
    let mut records = queue(3).records;
    records.doubt(5);
    assert_eq!(records.recovered(stop(2, 2), false), Ok(true));
    broken(records.observe(2, 3), "back from the dead");
}

#[test]
fn nobody_gets_what_another_one_holds_or_has_settled() {
    let mut queue = queue(9);
    let deliver = |queue: &mut StreamModel, holder, offset, redelivered| {
        queue.delivered(&delivery(holder, offset, redelivered), offset + 1)
    };
    assert_eq!(deliver(&mut queue, A, 0, false), Ok(()));
    broken(deliver(&mut queue, B, 0, true), "while (1, 1) holds it");
    queue.cursor.release(A, 0);
    broken(deliver(&mut queue, B, 0, false), "not flagged");
    assert_eq!(deliver(&mut queue, B, 0, true), Ok(()));
    queue.cursor.settle(B, 0, 1);
    broken(deliver(&mut queue, A, 0, true), "settled by connection 2");
    assert_eq!(deliver(&mut queue, A, 1, false), Ok(()));
    queue.cursor.half(A, 1, 1);
    queue.cursor.end(A);
    broken(deliver(&mut queue, B, 1, true), "half-settled");
    broken(queue.cursor.attached(B, &[0], false, 2), "said to be half-settled");
    assert_eq!(queue.cursor.attached(B, &[1], false, 2), Ok(()));
}

#[test]
fn first_deliveries_come_in_order_and_are_not_flagged() {
    let mut queue = queue(9);
    assert_eq!(queue.delivered(&delivery(A, 3, false), 4), Ok(()));
    broken(queue.delivered(&delivery(A, 2, false), 3), "came to (1, 1) after 3");
    broken(queue.delivered(&delivery(B, 4, true), 5), "first time, flagged");
    queue.cursor.recovered(9, true);
    assert_eq!(queue.delivered(&delivery(B, 4, true), 5), Ok(()), "it may have come before");
}

#[test]
fn settlements_that_were_stored_outlive_a_crash() {
    let mut queue = queue(2);
    for offset in 0..2 {
        queue.delivered(&delivery(A, offset, false), offset + 1).expect("first");
        queue.cursor.settle(A, offset, offset);
    }
    queue.cursor.confirm(A.0, 1, true);
    queue.cursor.recovered(2, true);
    broken(queue.delivered(&delivery(A, 0, true), 1), "settled by");
    assert_eq!(queue.delivered(&delivery(A, 1, true), 2), Ok(()), "sent, but never confirmed");
}

#[test]
fn what_is_acknowledged_is_consumed_in_the_end() {
    let mut queue = queue(2);
    queue.cursor.is_drained = true;
    queue.delivered(&delivery(A, 0, false), 1).expect("first");
    queue.cursor.settle(A, 0, 1);
    broken(queue.close(&BTreeMap::new()), "never handed out");
    queue.delivered(&delivery(A, 1, false), 2).expect("first");
    broken(queue.close(&BTreeMap::new()), "Held");
    queue.cursor.settle(A, 1, 2);
    assert_eq!(queue.close(&BTreeMap::new()), Ok(()));
    queue.records.sent(3, 7);
    queue.records.acked(3, None, 9).expect("new");
    broken(queue.close(&BTreeMap::new()), "v3 was acknowledged and never seen again");
    queue.cursor.purged(4);
    assert_eq!(queue.close(&BTreeMap::new()), Ok(()));
}

#[test]
fn group_offsets_retained_messages_and_producer_ids() {
    let mut model = Model::default();
    let key = ("g".to_owned(), 0);
    model.groups.insert(key.clone(), GroupOffset { acked: 5, attempted: 7 });
    for (read, text) in [(Some(4), "below 5"), (Some(8), "never committed"), (None, "below 5")] {
        broken(model.offset_fetched(&key, 5, read), text);
    }
    assert_eq!(model.offset_fetched(&key, 5, Some(7)), Ok(()));
    let retained = RetainedModel { history: vec![None, Some(1), Some(2), None], acked: 2 };
    assert_eq!(retained.check("r", 2, None), Ok(()));
    broken(retained.check("r", 2, Some(1)), "read Some(1)");
    assert_eq!(model.producer_id(1), Ok(()));
    broken(model.producer_id(1), "twice");
}
