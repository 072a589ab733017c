//! What the cluster has promised so far. One value per offset and one offset per value come from the model of
//! one node; here is what matters when leaders change: nothing acknowledged is ever lost, nothing settled
//! for sure comes again, whatever was delivered before is flagged, reads never go back in time.

use crate::model::{
    violation, Checked, Delivered, GroupOffset, Kind, RetainedModel, StreamModel, Value, Violation,
};
use koine_base::StreamId;
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct StreamHistory {
    pub model: StreamModel,
    /// Offsets that some consumer got.
    delivered: BTreeSet<u64>,
    /// Offsets whose settlement was acknowledged as durable.
    settled: BTreeSet<u64>,
    /// Offsets that somebody said are consumed, heard or not.
    consumed: BTreeSet<u64>,
}

impl StreamHistory {
    pub fn new(id: StreamId, name: String, kind: Kind) -> Self {
        StreamHistory {
            model: StreamModel::new(id, name, kind, true),
            delivered: BTreeSet::new(),
            settled: BTreeSet::new(),
            consumed: BTreeSet::new(),
        }
    }

    pub fn is_queue(&self) -> bool {
        self.model.kind == Kind::Queue
    }

    fn name(&self, result: Checked) -> Checked {
        result.map_err(|error| self.model.name_it(error))
    }

    /// A record came to a consumer.
    pub fn delivered(&mut self, delivered: &Delivered, value: Value) -> Checked {
        let offset = delivered.offset;
        let seen = self.model.records.observe(offset, value);
        self.name(seen)?;
        if self.settled.contains(&offset) {
            let text = format!("{offset} was settled for sure and comes again");
            return Err(self.model.name_it(Violation(text)));
        }
        if !self.delivered.insert(offset) && !delivered.redelivered {
            let text = format!("{offset} comes again and is not flagged");
            return Err(self.model.name_it(Violation(text)));
        }
        Ok(())
    }

    /// A consumer says so; the answer is open.
    pub fn consume(&mut self, offset: u64) {
        self.consumed.insert(offset);
    }

    /// The settlements of these offsets are durable.
    pub fn settled(&mut self, offsets: &[u64]) {
        self.settled.extend(offsets);
    }

    pub fn acked(&mut self, values: &[Value], base_offset: Option<u64>, now_us: u64) -> Checked {
        for (at, value) in (0..).zip(values) {
            let offset = base_offset.map(|base| base + at);
            let noted = self.model.records.acked(*value, offset, now_us);
            self.name(noted)?;
        }
        Ok(())
    }

    /// Everything was read and drained: is anything missing?
    pub fn close(&self, kept: &BTreeMap<u64, Value>) -> Checked {
        self.name(self.model.records.check_order())?;
        if !self.is_queue() {
            return self.name(self.model.records.check_kept(kept));
        }
        for (value, record) in self.model.records.acknowledged() {
            let is_consumed = record.offset.is_some_and(|offset| self.consumed.contains(&offset));
            if !is_consumed {
                let text = format!("v{value} at {:?} was acknowledged and is lost", record.offset);
                return Err(self.model.name_it(Violation(text)));
            }
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct History {
    pub streams: BTreeMap<StreamId, StreamHistory>,
    pub groups: BTreeMap<(String, i32), GroupOffset>,
    pub retained: BTreeMap<String, RetainedModel>,
    pub producer_ids: BTreeSet<i64>,
    next_value: Value,
    serials: u64,
    /// Acknowledged writes, for the liveness phase.
    pub acked_count: u64,
}

impl History {
    pub fn value(&mut self) -> Value {
        self.next_value += 1;
        self.next_value
    }

    pub fn serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    pub fn producer_id(&mut self, id: i64) -> Checked {
        match self.producer_ids.insert(id) {
            true => Ok(()),
            false => violation(format!("producer id {id} was given out twice")),
        }
    }

    pub fn offset_fetched(&self, key: &(String, i32), least: i64, read: Option<i64>) -> Checked {
        let known = self.groups.get(key).copied().unwrap_or_default();
        let read = read.unwrap_or(-1);
        let (group, partition) = key;
        if read < least {
            return violation(format!(
                "group {group} {partition}: {read} below {least}, which was acknowledged"
            ));
        }
        if read > known.attempted.max(-1) {
            return violation(format!("group {group} {partition}: {read} was never committed"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_base::GroupId;

    fn queue() -> StreamHistory {
        let id = StreamId::new(GroupId(1), 0);
        let mut queue = StreamHistory::new(id, "q".to_owned(), Kind::Queue);
        queue.model.records.sent(7, 1);
        queue.acked(&[7], None, 5).expect("new");
        queue
    }

    fn delivery(redelivered: bool) -> Delivered {
        let (auto_settled, is_stale, serial) = (false, false, 0);
        Delivered { holder: (1, 1), offset: 0, redelivered, auto_settled, is_stale, serial }
    }

    fn broken(result: Checked, text: &str) {
        let error = result.expect_err(text);
        assert!(error.0.contains(text), "{error} does not say {text:?}");
    }

    #[test]
    fn what_is_acknowledged_comes_until_it_is_consumed() {
        let mut queue = queue();
        broken(queue.close(&BTreeMap::new()), "v7 at None was acknowledged and is lost");
        queue.delivered(&delivery(false), 7).expect("first");
        broken(queue.delivered(&delivery(false), 7), "not flagged");
        queue.delivered(&delivery(true), 7).expect("flagged");
        broken(queue.close(&BTreeMap::new()), "is lost");
        queue.consume(0);
        queue.delivered(&delivery(true), 7).expect("not settled for sure");
        queue.settled(&[0]);
        broken(queue.delivered(&delivery(true), 7), "settled for sure");
        assert_eq!(queue.close(&BTreeMap::new()), Ok(()));
    }
}
