//! `total-queue`: a multiset that consumers take from. Nothing acknowledged is lost, nothing comes from
//! nowhere, and what comes again says so.

use super::writes::Place;
use super::{Kind, Verdict};
use crate::history::How;
use crate::value::Value;
use std::collections::HashSet;

pub fn check(place: &Place<'_, '_>, verdict: &mut Verdict) {
    place.check_lost(|write| write.promise.is_due(), verdict);
    let flagged = |how: &How| matches!(how, How::Delivered { redelivered: true });
    place.check_repeats(|read| (!flagged(&read.how)).then_some(Kind::NotFlagged), verdict);
    // Consumers race, and what comes again comes late; the rest is first in, first out. Of what is there
    // twice, because its client repeated it, either record may be the one that comes late.
    let late: HashSet<Value> =
        place.reads().iter().filter(|(read, _)| flagged(&read.how)).map(|read| read.1).collect();
    let is_twice = |value: &Value| {
        late.contains(value)
            && place.write_of(*value).is_some_and(|write| place.may_be_stored_again(write))
    };
    let reads = place.reads().iter().copied();
    let first = reads.filter(|(read, value)| !flagged(&read.how) && !is_twice(value));
    place.check_order(first, |read| (read.process, read.connection), verdict);
}
