//! What consumers were handed of one stream, and what they did with it: nobody gets what another one
//! holds, nothing settled comes again, a second delivery is flagged, first deliveries come in order.

use super::{violation, Checked, Value};
use std::collections::BTreeMap;

/// A connection and its consumer.
pub type Holder = (u64, u64);

/// How sure a settlement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sure {
    /// Sent.
    Sent,
    /// Something that the same client asked of the stream later was answered.
    Taken,
    /// Something that the same client stored in the stream later was acknowledged.
    Stored,
}

/// Who settled an offset, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settling {
    /// Connection.
    by: u64,
    /// Of the operation that settled it.
    serial: u64,
    sure: Sure,
}

impl Settling {
    fn new(by: u64, serial: u64) -> Self {
        Settling { by, serial, sure: Sure::Sent }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Held(Holder),
    /// Half-settled; in somebody's hands or in nobody's.
    Half(Option<Holder>, Settling),
    /// Was handed out and came back.
    Ready,
    Settled(Settling),
    /// A settlement was sent before a crash and may have been lost in it.
    Maybe,
}

/// A record in a consumer's hands.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    pub holder: Holder,
    pub offset: u64,
    pub redelivered: bool,
    /// It counts as settled at once.
    pub auto_settled: bool,
    /// The consumer had ended when it came.
    pub is_stale: bool,
    pub serial: u64,
}

#[derive(Default)]
pub struct CursorModel {
    states: BTreeMap<u64, State>,
    /// Everything below may have been handed out before the last restart.
    recovered_end: u64,
    /// A consumer ended since the last restart: what was on its way to it comes again, flagged.
    disturbed: bool,
    /// The last offset that each consumer was given unflagged.
    last_first: BTreeMap<Holder, u64>,
    /// Consumers settle on delivery: what was on its way to them when they ended is lost.
    pub is_lossy: bool,
    /// Records with lower values may have been purged.
    pub purged_below: Value,
    /// The consumer of a backlog, and takeovers under way.
    pub owner: Option<Holder>,
    pub taking_over: u32,
    /// The last look has consumed everything.
    pub is_drained: bool,
    /// Offsets handed out again after a restart, for coverage.
    pub redelivered_after_crash: u64,
}

impl CursorModel {
    pub fn delivered(&mut self, delivered: &Delivered) -> Checked {
        let Delivered { holder, offset, redelivered, is_stale, .. } = *delivered;
        if is_stale {
            // The node took it back when the consumer ended.
            self.states.entry(offset).or_insert(State::Ready);
            return Ok(());
        }
        match self.states.get(&offset) {
            None => self.check_first(holder, offset, redelivered)?,
            Some(State::Held(other)) => {
                return violation(format!("{offset} came to {holder:?} while {other:?} holds it"));
            }
            Some(State::Half(_, settling)) => {
                let text = format!("{offset}, half-settled ({settling:?}), came to {holder:?}");
                return violation(text);
            }
            Some(State::Settled(Settling { by, sure, .. })) => {
                return violation(format!(
                    "{offset}, settled by connection {by} ({sure:?}), came to {holder:?}"
                ));
            }
            Some(State::Ready | State::Maybe) if !redelivered => {
                return violation(format!("{offset} came again to {holder:?}, not flagged"));
            }
            Some(State::Ready | State::Maybe) => {
                self.redelivered_after_crash += u64::from(offset < self.recovered_end);
            }
        }
        let state = match delivered.auto_settled {
            true => State::Settled(Settling::new(holder.0, delivered.serial)),
            false => State::Held(holder),
        };
        self.states.insert(offset, state);
        Ok(())
    }

    fn check_first(&mut self, holder: Holder, offset: u64, redelivered: bool) -> Checked {
        if redelivered {
            if offset >= self.recovered_end && !self.disturbed {
                return violation(format!("{offset} came for the first time, flagged redelivered"));
            }
            return Ok(());
        }
        if let Some(last) = self.last_first.insert(holder, offset) {
            if last > offset {
                return violation(format!("{offset} came to {holder:?} after {last}"));
            }
        }
        Ok(())
    }

    /// What `holder` holds, half-settled ones included.
    pub fn held(&self, holder: Holder) -> Vec<u64> {
        let is_its = |state: &State| matches!(state, State::Held(by) | State::Half(Some(by), _) if *by == holder);
        self.states.iter().filter(|(_, state)| is_its(state)).map(|(offset, _)| *offset).collect()
    }

    /// The client says it has consumed (or discards) an offset.
    pub fn settle(&mut self, holder: Holder, offset: u64, serial: u64) {
        if let Some(state) = self.states.get_mut(&offset) {
            if matches!(state, State::Held(by) | State::Half(Some(by), _) if *by == holder) {
                *state = State::Settled(Settling::new(holder.0, serial));
            }
        }
    }

    pub fn half(&mut self, holder: Holder, offset: u64, serial: u64) {
        if let Some(state) = self.states.get_mut(&offset) {
            if *state == State::Held(holder) {
                *state = State::Half(Some(holder), Settling::new(holder.0, serial));
            }
        }
    }

    pub fn release(&mut self, holder: Holder, offset: u64) {
        let Some(state) = self.states.get_mut(&offset) else { return };
        match *state {
            State::Held(by) if by == holder => *state = State::Ready,
            State::Half(Some(by), settling) if by == holder => {
                *state = State::Half(None, settling);
            }
            _ => {}
        }
    }

    /// A consumer ends: what it held goes back.
    pub fn end(&mut self, holder: Holder) {
        self.disturbed = true;
        self.give_back(|by| by == holder);
    }

    /// The node sent a consumer away: what it had just settled may have come too late.
    pub fn sent_away(&mut self, holder: Holder) {
        self.end(holder);
        for state in self.states.values_mut() {
            if let State::Settled(of) | State::Half(_, of) = state {
                if of.by == holder.0 && of.sure < Sure::Stored {
                    *state = State::Maybe;
                }
            }
        }
    }

    pub fn end_connection(&mut self, connection: u64) {
        self.disturbed = true;
        self.last_first.retain(|holder, _| holder.0 != connection);
        self.give_back(|by| by.0 == connection);
    }

    fn give_back(&mut self, whose: impl Fn(Holder) -> bool) {
        for state in self.states.values_mut() {
            match *state {
                State::Held(by) if whose(by) => *state = State::Ready,
                State::Half(Some(by), settling) if whose(by) => {
                    *state = State::Half(None, settling);
                }
                _ => {}
            }
        }
    }

    /// A consumer is attached and takes over these half-settled offsets.
    pub fn attached(
        &mut self,
        holder: Holder,
        halves: &[u64],
        is_backlog: bool,
        serial: u64,
    ) -> Checked {
        if is_backlog {
            // It has the backlog to itself; what others sent last may have come too late.
            self.disturbed = true;
            self.owner = Some(holder);
            self.give_back(|by| by != holder);
            for state in self.states.values_mut() {
                let unsure = match *state {
                    State::Settled(of) | State::Half(_, of) => {
                        of.by != holder.0 && of.sure < Sure::Stored
                    }
                    _ => false,
                };
                if unsure {
                    *state = State::Maybe;
                }
            }
        }
        for offset in halves {
            let settling = match self.states.get(offset) {
                Some(State::Half(None, settling)) => *settling,
                Some(State::Maybe) => Settling::new(holder.0, serial),
                other => {
                    return violation(format!("{offset} is said to be half-settled: {other:?}"));
                }
            };
            self.states.insert(*offset, State::Half(Some(holder), settling));
        }
        Ok(())
    }

    /// An operation of this client on the stream was answered: what it settled before is in effect, and
    /// durable if the operation is.
    pub fn confirm(&mut self, connection: u64, serial: u64, durable: bool) {
        if self.taking_over > 0 || self.owner.is_some_and(|owner| owner.0 != connection) {
            return;
        }
        let now = if durable { Sure::Stored } else { Sure::Taken };
        for state in self.states.values_mut() {
            if let State::Settled(of) | State::Half(_, of) = state {
                if of.by == connection && of.serial < serial && of.sure < now {
                    of.sure = now;
                }
            }
        }
    }

    /// The node has stopped in order: whatever was sent to it is stored.
    pub fn confirm_all(&mut self) {
        for state in self.states.values_mut() {
            if let State::Settled(of) | State::Half(_, of) = state {
                of.sure = Sure::Stored;
            }
        }
    }

    /// A purge was answered: what was ready may be settled.
    pub fn purged(&mut self, below: Value) {
        self.purged_below = self.purged_below.max(below);
        for state in self.states.values_mut() {
            if *state == State::Ready {
                *state = State::Maybe;
            }
        }
    }

    /// Everything below `offset` may be gone.
    pub fn trimmed(&mut self, offset: u64) {
        for (_, state) in self.states.range_mut(..offset) {
            if *state == State::Ready {
                *state = State::Maybe;
            }
        }
    }

    /// The node starts again with everything below `end`.
    pub fn recovered(&mut self, end: u64, keeps_settlements: bool) {
        self.states.split_off(&end);
        self.recovered_end = end;
        self.disturbed = false;
        self.last_first.clear();
        self.owner = None;
        self.taking_over = 0;
        for state in self.states.values_mut() {
            *state = match *state {
                State::Held(_) | State::Ready => State::Ready,
                // Connection numbers begin anew.
                State::Settled(of) if keeps_settlements && of.sure == Sure::Stored => {
                    State::Settled(Settling { by: of.by | 1 << 63, ..of })
                }
                State::Half(_, of) if keeps_settlements && of.sure == Sure::Stored => {
                    State::Half(None, Settling { by: of.by | 1 << 63, ..of })
                }
                State::Half(..) | State::Settled(_) | State::Maybe => State::Maybe,
            };
        }
    }

    pub fn is_consumed(&self, offset: u64) -> bool {
        matches!(self.states.get(&offset), Some(State::Settled(_) | State::Maybe))
    }

    pub fn describe(&self, offset: u64) -> String {
        match self.states.get(&offset) {
            Some(state) => format!("{state:?}"),
            None => "never handed out".to_owned(),
        }
    }
}
