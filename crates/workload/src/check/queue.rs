//! `total-queue`: a multiset that consumers take from. Nothing acknowledged is lost, nothing comes from
//! nowhere, and what comes again says so.

use super::writes::Place;
use super::{Kind, Verdict};
use crate::history::{How, Promise};

pub fn check(place: &Place<'_, '_>, verdict: &mut Verdict) {
    place.check_lost(|write| write.promise != Promise::Nothing, verdict);
    let flagged = |how: &How| matches!(how, How::Delivered { redelivered: true });
    place.check_repeats(|read| (!flagged(&read.how)).then_some(Kind::NotFlagged), verdict);
    // Consumers race, and what comes again comes late; the rest is first in, first out.
    let first = place.reads().iter().copied().filter(|(read, _)| !flagged(&read.how));
    place.check_order(first, |read| (read.process, read.connection), verdict);
}
