//! Mixed load through the three protocols at once, and the history that decides afterwards. Each client is a thread with
//! a blocking socket that connects again and again while the broker is down. Never stops because a broker did.

pub mod amqp;
pub mod body;
pub mod bulk;
pub mod connection;
pub mod kafka;
pub mod ledger;
pub mod mixed;
pub mod mqtt;
pub mod site;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use koine_base::rng::Rng;

use ledger::{Ledger, Protocol, Repeats, Role, Sums};
use site::{Addresses, Site};

/// A look at what may have changed.
pub const PAUSE: Duration = Duration::from_millis(5);
/// Between two windows of a publisher: what matters is the number of faults, not of messages.
pub const PACE: Duration = Duration::from_millis(2);
/// Nothing was read for so long: what is missing then is lost.
const QUIET: Duration = Duration::from_secs(15);
/// How long writers may take until they have an answer to everything.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

const ROLES: [Role; 4] = [
    Role { name: "kafka idempotent", protocol: Protocol::Kafka, repeats: Repeats::Never },
    Role { name: "amqp confirms", protocol: Protocol::Amqp, repeats: Repeats::Flagged },
    Role { name: "mqtt qos 1", protocol: Protocol::Mqtt, repeats: Repeats::Always },
    Role { name: "mqtt qos 2", protocol: Protocol::Mqtt, repeats: Repeats::Never },
];

/// All that the clients share.
pub struct Load {
    pub site: Site,
    pub ledger: Ledger,
    subscriber_ready: AtomicBool,
    refusals_expected: AtomicBool,
    /// Guards the generator, for a moment each.
    rng: Mutex<Rng>,
}

impl Load {
    /// A number below `bound`.
    pub fn random(&self, bound: u64) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).below(bound)
    }

    pub fn subscriber_is_ready(&self) -> bool {
        self.subscriber_ready.load(Ordering::SeqCst)
    }

    /// The broker is made to run short of something, and may say no to what it then takes.
    pub fn expect_refusals(&self) {
        self.refusals_expected.store(true, Ordering::SeqCst);
    }

    pub fn set_subscriber_ready(&self) {
        self.subscriber_ready.store(true, Ordering::SeqCst);
    }
}

/// The running clients.
pub struct Clients {
    pub load: Arc<Load>,
    writers: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
    kafka: Option<JoinHandle<kafka::Consumer>>,
    mixed: Option<mixed::Mixed>,
}

/// Calls `live` for each connection until the load is over.
fn again(load: &Load, name: &str, mut live: impl FnMut(&Addresses, u64) -> io::Result<()>) {
    while !load.site.is_over() {
        let Some((addresses, life)) = load.site.visit() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        if let Err(error) = live(&addresses, life) {
            if error.kind() == io::ErrorKind::InvalidData {
                load.ledger.signal(format!("{name}: {error}"));
            } else if error.kind() == io::ErrorKind::TimedOut {
                load.ledger.signal(format!("{name}: no answer"));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Clients {
    /// Starts all of them; they begin when the site is up.
    pub fn start(seed: u64) -> Clients {
        let load = Arc::new(Load {
            site: Site::default(),
            ledger: Ledger::new(seed as u32, &ROLES),
            subscriber_ready: AtomicBool::new(false),
            refusals_expected: AtomicBool::new(false),
            rng: Mutex::new(Rng::new(seed)),
        });
        load.site.set_writing(true);
        load.site.set_reading(true);
        let mut writers = Vec::new();
        let mut readers = Vec::new();
        let shared = Arc::clone(&load);
        writers.push(std::thread::spawn(move || {
            let mut producer = kafka::Producer::new(0);
            again(&shared, "kafka producer", |at, life| producer.live(&shared, &at.kafka, life));
        }));
        let shared = Arc::clone(&load);
        writers.push(std::thread::spawn(move || {
            let mut publisher = amqp::Publisher::new(1);
            again(&shared, "amqp publisher", |at, life| publisher.live(&shared, &at.amqp, life));
        }));
        for (writer, qos) in [(2, 1), (3, 2)] {
            let shared = Arc::clone(&load);
            writers.push(std::thread::spawn(move || {
                let mut publisher = mqtt::Publisher::new(writer, qos);
                again(&shared, "mqtt publisher", |at, life| {
                    publisher.live(&shared, &at.mqtt, life)
                });
            }));
        }
        let shared = Arc::clone(&load);
        readers.push(std::thread::spawn(move || {
            again(&shared, "amqp consumer", |at, _| amqp::Consumer.live(&shared, &at.amqp));
        }));
        let shared = Arc::clone(&load);
        readers.push(std::thread::spawn(move || {
            let mut subscriber = mqtt::Subscriber::default();
            again(&shared, "mqtt subscriber", |at, _| subscriber.live(&shared, &at.mqtt));
        }));
        let shared = Arc::clone(&load);
        let kafka = std::thread::spawn(move || {
            let mut consumer = kafka::Consumer::default();
            again(&shared, "kafka consumer", |at, _| consumer.live(&shared, &at.kafka));
            consumer
        });
        let mixed = Some(mixed::Mixed::start(&load));
        Clients { load, writers, readers, kafka: Some(kafka), mixed }
    }

    /// Stops writing and waits until everything is answered and read, or nothing moves any more. The broker has to be
    /// up. Writing stays off.
    pub fn settle(&self) -> Sums {
        let load = &self.load;
        load.site.set_writing(false);
        load.site.set_reading(true);
        let start = Instant::now();
        while load.site.open_count() > 0 && start.elapsed() < ANSWER_LIMIT {
            std::thread::sleep(PAUSE);
        }
        if load.site.open_count() > 0 {
            let count = load.site.open_count();
            load.ledger.complain(format!("{count} messages got no answer in {ANSWER_LIMIT:?}"));
        }
        let (mut sums, mut moved) = (load.ledger.sums(), Instant::now());
        while sums.lost > 0 && moved.elapsed() < QUIET {
            std::thread::sleep(10 * PAUSE);
            let now = load.ledger.sums();
            if now.read > sums.read {
                moved = Instant::now();
            }
            sums = now;
        }
        if let Some(mixed) = &self.mixed {
            mixed.check(load);
        }
        load.ledger.sums()
    }

    /// Settles, ends the clients, reads the Kafka log from its start and looks whether the queue is empty.
    pub fn finish(mut self, addresses: &Addresses) -> Sums {
        self.settle();
        // What was read twice because an acknowledgement was under way arrives at once.
        std::thread::sleep(100 * PAUSE);
        self.load.site.end();
        for thread in self.writers.drain(..).chain(self.readers.drain(..)) {
            if thread.join().is_err() {
                self.load.ledger.complain("a client of the load failed".to_owned());
            }
        }
        if self.mixed.take().is_some_and(|mixed| !mixed.join()) {
            self.load.ledger.complain("the mix failed".to_owned());
        }
        match self.kafka.take().map(JoinHandle::join) {
            Some(Ok(consumer)) => {
                if let Err(error) = consumer.scan(&self.load, &addresses.kafka) {
                    self.load.ledger.complain(format!("kafka: reading all again: {error}"));
                }
            }
            _ => self.load.ledger.complain("the Kafka consumer failed".to_owned()),
        }
        match amqp::Channel::open(&addresses.amqp).and_then(|mut c| c.declare(amqp::QUEUE)) {
            Ok(0) => {}
            Ok(left) => self.load.ledger.complain(format!("amqp: {left} messages are left")),
            Err(error) => self.load.ledger.complain(format!("amqp: declare at the end: {error}")),
        }
        self.load.ledger.sums()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.load.site.end();
    }
}
