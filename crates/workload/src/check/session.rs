//! What an MQTT session is pushed: at least once or exactly once by QoS, in order per topic and
//! publisher, with DUP on what comes again.

use super::writes::Place;
use super::{Kind, Verdict};
use crate::history::{How, Read};

pub fn check(place: &Place<'_, '_>, qos: u8, verdict: &mut Verdict) {
    // QoS 0, of either side, promises nothing.
    place.check_lost(|write| qos > 0 && write.promise.is_due(), verdict);
    let again = |read: &Read| match read.how {
        How::Pushed { qos: 1, dup: true } => None,
        How::Pushed { qos: 1, .. } => Some(Kind::NotFlagged),
        // The client tells repetitions of one exchange itself (MQTT 5 §4.3.3): this is another.
        _ => Some(Kind::Duplicated),
    };
    place.check_repeats(again, verdict);
    // Where nothing is stored the first try may have been missed, and a repetition comes behind what followed it.
    let is_first_try = |read: &Read, value| {
        !matches!(read.how, How::Pushed { qos: 0, .. })
            || place.write_of(value).is_none_or(|write| write.repeats == 0)
    };
    let first_tries =
        place.reads().iter().copied().filter(|(read, value)| is_first_try(read, *value));
    place.check_order(first_tries, |_| (), verdict);
}
