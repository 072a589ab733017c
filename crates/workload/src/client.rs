//! What all clients have in common: a state machine that is fed bytes and turns, and leaves bytes and
//! history behind. A client lives as long as the run; its connections come and go.

use crate::frames::Malformed;
use crate::history::{History, How, Note, Process, SinkId};
use crate::value::{Found, Value};
use koine_base::rng::Rng;
use koine_base::{Moment, Now};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Kafka,
    Amqp091,
    Mqtt,
}

/// What clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Make topics, queues, bindings and sessions; nothing else.
    SetUp,
    Load,
    /// Finish what was begun, begin nothing new, read everything.
    Drain,
}

/// What a client may use and leave behind in one step.
pub struct Step<'a> {
    pub now: Now,
    pub phase: Phase,
    pub run: u32,
    /// Largest body.
    pub body_bytes_max: usize,
    pub rng: &'a mut Rng,
    pub history: &'a mut History,
    /// Bytes for the broker.
    pub out: &'a mut Vec<u8>,
    /// Set by a client that wants its connection ended once `out` is sent.
    pub close: bool,
}

impl Step<'_> {
    pub fn moment(&self) -> Moment {
        self.now.moment
    }

    /// The body that carries `value`: mostly small, sometimes as large as allowed.
    pub fn body(&mut self, value: Value, key: u32) -> Vec<u8> {
        let most = match self.rng.below(8) {
            0 => self.body_bytes_max,
            _ => self.body_bytes_max / 16,
        };
        let bytes = self.rng.below(most as u64 + 1) as usize;
        value.body(self.run, key, bytes)
    }

    pub fn read(&mut self, who: (Process, u32), sink: SinkId, body: &[u8], how: How) {
        let found = Found::in_body(self.run, body);
        self.history.read(self.now.moment, who, sink, found, how);
    }

    pub fn note(&mut self, process: Process, note: Note) {
        self.history.note(process, note);
    }

    /// The broker said no; the connection is given up.
    pub fn refused(&mut self, process: Process, text: String) {
        self.history.note(process, Note::Refused(text));
        self.close = true;
    }
}

/// One client of one protocol.
pub trait Client: Send {
    fn protocol(&self) -> Protocol;

    /// A connection is there: says hello.
    fn connected(&mut self, step: &mut Step<'_>);

    /// Takes whole frames off the front of `input`, says how many bytes they were.
    fn receive(&mut self, input: &[u8], step: &mut Step<'_>) -> Result<usize, Malformed>;

    /// Its turn to begin something. Called only while connected.
    fn act(&mut self, step: &mut Step<'_>);

    /// The connection ended, by whomever.
    fn lost(&mut self, step: &mut Step<'_>);

    /// It has made what it is to make.
    fn is_set_up(&self) -> bool;

    /// An answer is due: the client gives up a connection on which nothing comes for too long.
    fn is_waiting(&self) -> bool;

    /// In [`Phase::Drain`]: it has nothing of its own left to finish.
    fn is_finished(&self) -> bool;

    /// Writes may follow reads: true once all that others have written by then has been asked for.
    fn has_read_all(&self) -> bool {
        true
    }

    /// All writers have finished: what is read from now on is the whole.
    fn read_all(&mut self) {}
}
