//! `koine demo`: replays real flights through all three protocols at once and accounts for every
//! record at every reader. It is a client of the broker like any other.
//!
//! Carriers are split over a Kafka, an AMQP and an MQTT writer. Every flight goes to the subject
//! `flights/ORIGIN/CARRIER`, which is a Kafka topic as well. A Kafka group of two reads all topics, an
//! MQTT subscriber per airport reads its wildcard, an AMQP queue bound to the topic exchange reads one
//! airport.

mod amqp;
pub mod flights;
mod kafka;
mod matrix;
mod mqtt;
mod progress;
mod wire;

use crate::metrics::{Protocol, PROTOCOLS};
use crate::terminal::Style;
use flights::Flight;
use matrix::Matrix;
use progress::{Bar, Progress};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::{Clock, Event, Feed, Outgoing, WireError, Writer};

/// Members of the Kafka consumer group.
const GROUP_MEMBERS: usize = 2;
/// Records that one writer has unconfirmed at most.
const RECORDS_PER_WRITE: usize = 64;
/// Records on their way to the account; a slow account slows the readers, as it should.
const EVENTS_WAITING_MAX: usize = 16_384;
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(30);
/// Silence after which what is missing counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Time for duplicates to show after the last record came.
const AFTERMATH: Duration = Duration::from_millis(300);
const REDRAW: Duration = Duration::from_millis(100);

pub struct Plan<'a> {
    pub flights: &'a [Flight],
    /// Flight time over wall time; none is as fast as the broker takes it.
    pub speed: Option<f64>,
    pub kafka: SocketAddr,
    pub amqp: SocketAddr,
    pub mqtt: SocketAddr,
    /// First level of all subjects; new for each run on a broker that is kept.
    pub prefix: &'a str,
}

pub struct Report {
    pub right: bool,
    pub text: String,
    pub json: serde_json::Value,
}

#[derive(Debug)]
pub enum DemoError {
    Client {
        who: String,
        error: WireError,
    },
    /// The subscribers were not in place in time.
    NotSubscribed,
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DemoError::Client { who, error } => write!(f, "{who}: {error}"),
            DemoError::NotSubscribed => {
                f.write_str("the subscribers were not in place within 30 s")
            }
        }
    }
}

impl std::error::Error for DemoError {}

pub fn run(plan: &Plan<'_>, style: Style) -> Result<Report, DemoError> {
    let writers = share_out(plan.flights);
    let topics: BTreeSet<String> =
        plan.flights.iter().map(|flight| flight.subject(plan.prefix, '.')).collect();
    let topics: Vec<String> = topics.into_iter().collect();
    let failed = |who: &str| {
        let who = who.to_owned();
        move |error| DemoError::Client { who, error }
    };
    kafka::create_topics(plan.kafka, &topics).map_err(failed("creating the topics"))?;

    let (events, arriving) = sync_channel(EVENTS_WAITING_MAX);
    let stop = Arc::new(AtomicBool::new(false));
    let clock = Clock(Instant::now());
    std::thread::scope(|scope| {
        let feed = |reader, member| Feed {
            reader,
            member,
            events: events.clone(),
            stop: Arc::clone(&stop),
            clock,
        };
        let readers = readers(plan, &topics);
        let reader_count = readers.len();
        for (index, reader) in readers.into_iter().enumerate() {
            let feed = feed(reader.protocol, index);
            scope.spawn(move || finish(&feed.events, &reader.who, (reader.run)(&feed)));
        }
        let account = Account {
            matrix: Matrix::new(plan.flights, &writers),
            arriving,
            topics: topics.len(),
            readers: reader_count,
            partitions: HashMap::new(),
            subscribed: 0,
            written: [0; 3],
            progress: Progress::new(),
        };
        let outcome = account.keep(|protocol| {
            let (events, writers) = (events.clone(), &writers);
            scope.spawn(move || {
                let who = format!("{} writer", protocol.name());
                let result = replay(plan, protocol, writers, &events, clock);
                finish(&events, &who, result);
            });
        });
        stop.store(true, Ordering::Relaxed);
        let matrix = outcome?;
        let text = matrix.render(style);
        Ok(Report { right: matrix.is_right(), text, json: matrix.to_json() })
    })
}

fn finish(events: &SyncSender<Event>, who: &str, result: Result<(), WireError>) {
    // The account may have ended already; then nobody cares.
    let _ = events.send(match result {
        Ok(()) => Event::Finished,
        Err(error) => Event::Failed { who: who.to_owned(), error },
    });
}

/// Which protocol writes each flight: carriers by size, each to the writer that has least so far.
fn share_out(flights: &[Flight]) -> Vec<Protocol> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for flight in flights {
        *counts.entry(flight.carrier.as_str()).or_default() += 1;
    }
    let mut carriers: Vec<(&str, usize)> = counts.into_iter().collect();
    carriers.sort_by_key(|(carrier, count)| (std::cmp::Reverse(*count), *carrier));
    let mut loads = [0; 3];
    let mut writer_of = HashMap::new();
    for (carrier, count) in carriers {
        let least = (0..3).min_by_key(|index| loads[*index]).unwrap_or(0);
        loads[least] += count;
        writer_of.insert(carrier, PROTOCOLS[least]);
    }
    flights.iter().map(|flight| writer_of[flight.carrier.as_str()]).collect()
}

type ReaderBody<'a> = Box<dyn FnOnce(&Feed) -> Result<(), WireError> + Send + 'a>;

struct Reader<'a> {
    protocol: Protocol,
    who: String,
    run: ReaderBody<'a>,
}

fn readers<'a>(plan: &'a Plan<'_>, topics: &'a [String]) -> Vec<Reader<'a>> {
    let mut readers = Vec::new();
    for member in 0..GROUP_MEMBERS {
        let run: ReaderBody<'a> = Box::new(move |feed| {
            kafka::read(plan.kafka, &format!("{}-group", plan.prefix), topics, feed)
        });
        readers.push(Reader {
            protocol: Protocol::Kafka,
            who: format!("kafka group member {member}"),
            run,
        });
    }
    let run: ReaderBody<'a> = Box::new(move |feed| {
        let airport = matrix::AMQP_AIRPORT;
        let queue = format!("{}-{airport}", plan.prefix);
        amqp::read(plan.amqp, &queue, &format!("{}.{airport}.#", plan.prefix), feed)
    });
    readers.push(Reader { protocol: Protocol::Amqp091, who: "amqp queue".to_owned(), run });
    let airports: BTreeSet<&str> =
        plan.flights.iter().map(|flight| flight.origin.as_str()).collect();
    for airport in airports {
        let run: ReaderBody<'a> = Box::new(move |feed| {
            let filter = format!("{}/{airport}/#", plan.prefix);
            mqtt::read(plan.mqtt, &format!("{}-reader-{airport}", plan.prefix), &filter, feed)
        });
        readers.push(Reader {
            protocol: Protocol::Mqtt,
            who: format!("mqtt subscriber of {airport}"),
            run,
        });
    }
    readers
}

/// Writes this protocol's flights, each not before its time has come at the chosen speed.
fn replay(
    plan: &Plan<'_>,
    protocol: Protocol,
    writers: &[Protocol],
    events: &SyncSender<Event>,
    clock: Clock,
) -> Result<(), WireError> {
    let mut writer: Box<dyn Writer> = match protocol {
        Protocol::Kafka => Box::new(kafka::KafkaWriter::open(plan.kafka, plan.prefix)?),
        Protocol::Amqp091 => Box::new(amqp::AmqpWriter::open(plan.amqp, plan.prefix)?),
        Protocol::Mqtt => Box::new(mqtt::MqttWriter::open(plan.mqtt, plan.prefix)?),
        Protocol::Admin => return Err(wire::unexpected("nobody writes through the admin API")),
    };
    let began = Instant::now();
    let first_ms = plan.flights.first().map_or(0, |flight| flight.departed_ms);
    let due = |flight: &Flight| {
        let after_ms = (flight.departed_ms - first_ms) as f64;
        plan.speed
            .map_or(Duration::ZERO, |speed| Duration::from_secs_f64(after_ms / 1000.0 / speed))
    };
    let mut mine = (0..plan.flights.len()).filter(|number| writers[*number] == protocol).peekable();
    while let Some(next) = mine.peek() {
        let wait = due(&plan.flights[*next]).saturating_sub(began.elapsed());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        let elapsed = began.elapsed();
        let mut records = Vec::with_capacity(RECORDS_PER_WRITE);
        while records.len() < RECORDS_PER_WRITE {
            let Some(number) = mine.next_if(|number| due(&plan.flights[*number]) <= elapsed) else {
                break;
            };
            let flight = &plan.flights[number];
            records.push(Outgoing { flight, body: flight.body(number, clock.now_us()) });
        }
        writer.write(&records)?;
        let _ = events.send(Event::Wrote { writer: protocol, count: records.len() as u64 });
    }
    Ok(())
}

/// Listens to everyone until every record is there or no more come.
struct Account<'a> {
    matrix: Matrix<'a>,
    arriving: Receiver<Event>,
    topics: usize,
    readers: usize,
    /// Per member of the Kafka group.
    partitions: HashMap<usize, usize>,
    /// Readers other than the group's members.
    subscribed: usize,
    written: [u64; 3],
    progress: Progress,
}

impl<'a> Account<'a> {
    fn keep(mut self, start_writer: impl FnMut(Protocol)) -> Result<Matrix<'a>, DemoError> {
        let deadline = Instant::now() + SUBSCRIBE_WAIT;
        while !self.all_subscribed() {
            self.take(Duration::from_millis(50))?;
            if Instant::now() > deadline {
                return Err(DemoError::NotSubscribed);
            }
        }
        PROTOCOLS.into_iter().for_each(start_writer);
        let mut last_news = Instant::now();
        while !self.matrix.is_complete() && last_news.elapsed() < SILENCE_MAX {
            if self.take(REDRAW)? {
                last_news = Instant::now();
            }
            self.draw(false);
        }
        let end = Instant::now() + AFTERMATH;
        while Instant::now() < end {
            self.take(Duration::from_millis(50))?;
        }
        self.draw(true);
        Ok(self.matrix)
    }

    fn all_subscribed(&self) -> bool {
        let shares = self.partitions.values();
        let dealt = self.partitions.len() == GROUP_MEMBERS
            && shares.clone().sum::<usize>() == self.topics
            && shares.clone().all(|share| *share > 0);
        dealt && self.subscribed == self.readers - GROUP_MEMBERS
    }

    /// One event; `false` if none came in time.
    fn take(&mut self, wait: Duration) -> Result<bool, DemoError> {
        match self.arriving.recv_timeout(wait) {
            Ok(Event::Subscribed { reader: Protocol::Kafka, member, partitions }) => {
                self.partitions.insert(member, partitions);
            }
            Ok(Event::Subscribed { .. }) => self.subscribed += 1,
            Ok(Event::Received { reader, body, at_us }) => {
                self.matrix.receive(reader, &body, at_us)
            }
            Ok(Event::Wrote { writer, count }) => self.written[writer as usize] += count,
            Ok(Event::Finished) => {}
            Ok(Event::Failed { who, error }) => return Err(DemoError::Client { who, error }),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(false),
        }
        Ok(true)
    }

    fn draw(&mut self, last: bool) {
        if !(last || self.progress.is_due()) {
            return;
        }
        let labels = PROTOCOLS.map(|protocol| {
            let name = protocol.name();
            (format!("{name} writes"), format!("{name} reads"))
        });
        let written = PROTOCOLS.iter().zip(&labels).map(|(protocol, (label, _))| Bar {
            label,
            done: self.written[*protocol as usize],
            // Kafka reads everything.
            of: self.matrix.cell(*protocol, Protocol::Kafka).sent,
        });
        let read = PROTOCOLS.iter().zip(&labels).map(|(protocol, (_, label))| {
            let of = self.matrix.sent_to(*protocol);
            Bar { label, done: of - self.matrix.missing_of(*protocol), of }
        });
        let bars: Vec<Bar<'_>> = written.chain(read).collect();
        self.progress.draw(&bars);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carrier_has_one_writer_and_the_shares_are_even() {
        let flights = flights::slice().unwrap();
        let writers = share_out(&flights);
        let mut of_carrier: HashMap<&str, Protocol> = HashMap::new();
        let mut loads = [0usize; 3];
        for (flight, writer) in flights.iter().zip(&writers) {
            assert_eq!(of_carrier.entry(&flight.carrier).or_insert(*writer), writer);
            loads[*writer as usize] += 1;
        }
        assert!(loads.iter().all(|load| *load > flights.len() / 4), "{loads:?}");
    }
}
