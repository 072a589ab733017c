//! The one seam between the load and a wire protocol. To add a protocol: implement [`Protocol`] and
//! [`Link`] in a folder of its own and name it in `main.rs`. A link holds no socket and no clock.

use crate::clock::{Nanos, Schedule};
use crate::dialogue::Dialogue;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::tally::Tally;

/// One wire protocol: sets up what the load needs, then opens its connections one by one.
pub trait Protocol {
    /// Creates the lanes (partitions, queues).
    fn prepare(&mut self, plan: &Plan) -> Result<(), Failure>;
    fn producer(&self, plan: &Plan, index: usize) -> Result<Opened, Failure>;
    fn consumer(&self, plan: &Plan, index: usize) -> Result<Opened, Failure>;
    /// Removes what `prepare` created.
    fn clean_up(&self, plan: &Plan) -> Result<(), Failure>;
    /// What the broker was asked to promise, in the protocol's own words.
    fn promise(&self, plan: &Plan) -> String;
}

/// A connection after its handshake, and the state machine that goes on from there.
pub struct Opened {
    pub dialogue: Dialogue,
    pub link: Box<dyn Link>,
}

/// The state of one producer or consumer connection.
pub trait Link: Send {
    /// Bytes to send before anything else, such as the first fetch.
    fn start(&mut self, _out: &mut Vec<u8>) {}

    /// Messages that [`Self::publish`] sends at least at once; 0 for a consumer.
    fn unit(&self) -> u64 {
        0
    }

    /// Bytes of one unit on the wire.
    fn unit_bytes(&self) -> usize {
        0
    }

    /// Units that the window has room for.
    fn room(&self) -> u64 {
        0
    }

    /// Appends up to `units` whole units to `out`; says how many. Each message is stamped with its
    /// intended time out of `times`.
    fn publish(
        &mut self,
        _units: u64,
        _times: &mut Schedule,
        _out: &mut Vec<u8>,
        _tally: &mut Tally,
    ) -> u64 {
        0
    }

    /// Takes whole frames off the front of `input`, appends answers to `out`, says how many bytes
    /// were used.
    fn receive(
        &mut self,
        input: &[u8],
        at: Nanos,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<usize, Failure>;
}
