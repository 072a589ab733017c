//! Where the broker is, as the fault tells the load: its addresses while it is up, and which life of it that is.
//! Also measures how long each protocol took to its first acknowledgement after a start.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ledger::Protocol;

/// Where the broker listens, as in its ready file.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub kafka: String,
    pub amqp: String,
    pub mqtt: String,
}

#[derive(Default)]
struct Place {
    addresses: Option<Addresses>,
    started: Option<Instant>,
    /// From the start of the process to the first acknowledgement, per protocol.
    first: [Option<Duration>; 3],
}

#[derive(Default)]
pub struct Site {
    /// Guarded by one lock, which is held for moments only.
    place: Mutex<Place>,
    /// Counts the broker's lives. Acknowledgements that were under way when one ended belong to that one.
    life: AtomicU64,
    writing: AtomicBool,
    reading: AtomicBool,
    over: AtomicBool,
    /// Messages without an answer yet, of all writers.
    open: AtomicUsize,
}

impl Site {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process is being started.
    pub fn starting(&self) {
        *self.place() = Place { started: Some(Instant::now()), ..Place::default() };
    }

    /// The same process is rid of what kept it from serving: waits for the first acknowledgement count from now.
    pub fn relieved(&self) {
        let mut place = self.place();
        (place.started, place.first) = (Some(Instant::now()), [None; 3]);
    }

    pub fn up(&self, addresses: Addresses) {
        self.life.fetch_add(1, Ordering::SeqCst);
        self.place().addresses = Some(addresses);
    }

    pub fn down(&self) {
        self.place().addresses = None;
    }

    /// The addresses and the life they belong to.
    pub fn visit(&self) -> Option<(Addresses, u64)> {
        let place = self.place();
        let life = self.life.load(Ordering::SeqCst);
        place.addresses.clone().map(|addresses| (addresses, life))
    }

    pub fn acknowledged(&self, protocol: Protocol, life: u64) {
        if life != self.life.load(Ordering::SeqCst) {
            return;
        }
        let mut place = self.place();
        let started = place.started;
        if let (None, Some(started)) = (place.first[protocol as usize], started) {
            place.first[protocol as usize] = Some(started.elapsed());
        }
    }

    /// The first acknowledgements since the last start.
    pub fn first(&self) -> [Option<Duration>; 3] {
        self.place().first
    }

    pub fn set_writing(&self, on: bool) {
        self.writing.store(on, Ordering::SeqCst);
    }

    pub fn is_writing(&self) -> bool {
        self.writing.load(Ordering::SeqCst)
    }

    pub fn set_reading(&self, on: bool) {
        self.reading.store(on, Ordering::SeqCst);
    }

    pub fn is_reading(&self) -> bool {
        self.reading.load(Ordering::SeqCst)
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub fn opened(&self, count: usize) {
        self.open.fetch_add(count, Ordering::SeqCst);
    }

    pub fn closed(&self, count: usize) {
        self.open.fetch_sub(count, Ordering::SeqCst);
    }

    pub fn open_count(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}
