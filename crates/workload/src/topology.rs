//! Who writes and reads what in a mix: places that each protocol has to itself and places where they meet.
//!
//! ```text
//! name           what it is                       written by          read by
//! <run>-k        topic, 2 partitions              Kafka               Kafka
//! <run>-x        topic, 2 partitions              Kafka               Kafka; AMQP as a queue
//! <run>-q        queue                            AMQP, Kafka         AMQP; Kafka, as far as it is kept
//! <run>/s/0      subject, and the topic <run>.s.0 MQTT, AMQP, Kafka   MQTT; Kafka; AMQP by the queue <run>-b
//! <run>/s/1      subject                          MQTT, AMQP          MQTT; AMQP by the queue <run>-b
//! <run>/s/will   subject                          MQTT, as wills     MQTT; AMQP by the queue <run>-b
//! <run>-nowhere  nothing                          AMQP                it comes back
//! <run>/r/0..2   retained messages                MQTT                MQTT
//! ```

use crate::client::Client;
use crate::history::{History, Process, RouteId, SinkId, SinkKind};
use crate::mix::MixOptions;
use crate::{amqp, kafka, mqtt};

const RETAINED_TOPICS: usize = 3;
/// Partitions of the topics that have several.
const PARTITIONS: i32 = 2;

/// Sinks and routes, by the names above.
struct Places {
    run: String,
    k: Vec<SinkId>,
    x: Vec<SinkId>,
    x_queue: SinkId,
    q: SinkId,
    q_log: SinkId,
    b: SinkId,
    s_log: SinkId,
    sessions: Vec<SinkId>,
}

/// All clients of a mix; the places that they use become those of `history`.
pub fn clients(options: &MixOptions, history: &mut History) -> Vec<Box<dyn Client>> {
    let places = Places::new(options, history);
    let mut clients: Vec<Box<dyn Client>> = Vec::new();
    add_kafka(options, &places, history, &mut clients);
    add_amqp(options, &places, history, &mut clients);
    add_mqtt(options, &places, history, &mut clients);
    clients
}

fn next(clients: &[Box<dyn Client>]) -> Process {
    clients.len() as Process
}

impl Places {
    fn new(options: &MixOptions, history: &mut History) -> Places {
        let run = format!("w{:x}", options.run);
        let whole = SinkKind::Log { whole: true };
        let mut logs = |name: &str| -> Vec<SinkId> {
            (0..PARTITIONS)
                .map(|at| history.sink(format!("log {run}-{name}/{at}"), whole))
                .collect()
        };
        let (k, x) = (logs("k"), logs("x"));
        Places {
            k,
            x,
            x_queue: history.sink(format!("topic {run}-x as a queue"), SinkKind::Queue),
            q: history.sink(format!("queue {run}-q"), SinkKind::Queue),
            q_log: history.sink(format!("log {run}-q"), SinkKind::Log { whole: false }),
            b: history.sink(format!("queue {run}-b"), SinkKind::Queue),
            s_log: history.sink(format!("log {run}.s.0"), whole),
            sessions: (0..options.mqtt_subscribers)
                .map(|at| {
                    let qos = qos_of(at);
                    history.sink(
                        format!("session {run}-sub-{at}, QoS {qos}"),
                        SinkKind::Session { qos },
                    )
                })
                .collect(),
            run,
        }
    }

    fn name(&self, of: &str) -> String {
        format!("{}-{of}", self.run)
    }

    /// What the subject `<run>/s/<number>` reaches. Queues and topics without a reader are left out.
    fn subject(&self, number: usize, options: &MixOptions) -> Vec<SinkId> {
        let mut sinks = self.sessions.clone();
        if options.amqp_consumers > 1 {
            sinks.push(self.b);
        }
        if number == 0 && options.kafka_readers > 0 {
            sinks.push(self.s_log);
        }
        sinks
    }

    fn topic_x(&self, partition: usize, options: &MixOptions) -> Vec<SinkId> {
        let mut sinks = Vec::new();
        if options.kafka_readers > 0 {
            sinks.push(self.x[partition]);
        }
        if options.amqp_consumers > 2 {
            sinks.push(self.x_queue);
        }
        sinks
    }

    fn queue_q(&self, options: &MixOptions) -> Vec<SinkId> {
        let mut sinks = vec![self.q_log];
        if options.amqp_consumers > 0 {
            sinks.push(self.q);
        }
        sinks
    }
}

/// Of a subscriber: the strictest first.
fn qos_of(subscriber: usize) -> u8 {
    [2, 1, 0, 1][subscriber % 4]
}

fn version_of(index: usize) -> mqtt::Version {
    if index.is_multiple_of(2) {
        mqtt::Version::V5
    } else {
        mqtt::Version::V311
    }
}

fn add_kafka(
    options: &MixOptions,
    places: &Places,
    history: &mut History,
    clients: &mut Vec<Box<dyn Client>>,
) {
    let mut targets = Vec::new();
    let mut partitions = Vec::new();
    let mut add = |topic: String, partition: i32, log: SinkId, sinks: &[SinkId]| {
        let route = history.route(format!("kafka {topic}/{partition}"), sinks);
        if log == places.s_log {
            let others = sinks.iter().copied().filter(|sink| *sink != log);
            history.routes[route].copies = others.collect();
        }
        targets.push(kafka::Target { topic: topic.clone(), partition, route });
        partitions.push(kafka::Partition { topic, partition, sink: log });
    };
    for at in 0..PARTITIONS as usize {
        let of_k = if options.kafka_readers > 0 { vec![places.k[at]] } else { Vec::new() };
        add(places.name("k"), at as i32, places.k[at], &of_k);
        add(places.name("x"), at as i32, places.x[at], &places.topic_x(at, options));
    }
    let subject = format!("{}.s.0", places.run);
    add(subject.clone(), 0, places.s_log, &places.subject(0, options));
    // The queue is there only if an AMQP client makes it.
    if options.amqp_publishers > 0 {
        add(places.name("q"), 0, places.q_log, &places.queue_q(options));
    }
    let topics = [(places.name("k"), PARTITIONS), (places.name("x"), PARTITIONS), (subject, 1)];
    let topics: Vec<kafka::Topic> = topics
        .map(|(name, partition_count)| kafka::Topic { name, partition_count })
        .into_iter()
        .collect();
    for at in 0..options.kafka_writers {
        let topics = if at == 0 { topics.clone() } else { Vec::new() };
        let writer = kafka::Writer::new(next(clients), topics, targets.clone(), at % 2 == 0);
        clients.push(Box::new(writer));
    }
    for at in 0..options.kafka_readers {
        let group = places.name(&format!("group-{at}"));
        let reader = kafka::Reader::new(next(clients), group, partitions.clone());
        clients.push(Box::new(reader));
    }
}

fn add_amqp(
    options: &MixOptions,
    places: &Places,
    history: &mut History,
    clients: &mut Vec<Box<dyn Client>>,
) {
    let mut address = |exchange: &str, key: String, sinks: &[SinkId]| {
        let route: RouteId = history.route(format!("amqp {exchange}:{key}"), sinks);
        amqp::Address { exchange: exchange.to_owned(), key, route }
    };
    let mut addresses = vec![
        address("", places.name("q"), &places.queue_q(options)),
        address("", places.name("nowhere"), &[]),
    ];
    for number in 0..2 {
        let key = format!("{}.s.{number}", places.run);
        addresses.push(address("amq.topic", key, &places.subject(number, options)));
    }
    let queues = vec![
        amqp::Queue { name: places.name("q"), binding: None },
        amqp::Queue { name: places.name("b"), binding: Some(format!("{}.s.#", places.run)) },
    ];
    for at in 0..options.amqp_publishers {
        let queues = if at == 0 { queues.clone() } else { Vec::new() };
        let publisher = amqp::Publisher::new(next(clients), queues, addresses.clone());
        clients.push(Box::new(publisher));
    }
    for at in 0..options.amqp_consumers {
        let (queue, sink) = match at % 4 {
            1 => (places.name("b"), places.b),
            2 => (places.name("x"), places.x_queue),
            _ => (places.name("q"), places.q),
        };
        let consumer = amqp::Consumer::new(next(clients), queue, sink, at % 4 == 3);
        clients.push(Box::new(consumer));
    }
}

fn add_mqtt(
    options: &MixOptions,
    places: &Places,
    history: &mut History,
    clients: &mut Vec<Box<dyn Client>>,
) {
    let run = &places.run;
    let topics: Vec<mqtt::Topic> = (0..2)
        .map(|number| {
            let name = format!("{run}/s/{number}");
            let route = history.route(format!("mqtt {name}"), &places.subject(number, options));
            mqtt::Topic { name, route }
        })
        .collect();
    let name = format!("{run}/s/will");
    // Like any subject but the first, it has no topic of its own.
    let route = history.route(format!("mqtt {name}"), &places.subject(1, options));
    let will = mqtt::Topic { name, route };
    for at in 0..options.mqtt_publishers {
        let name = places.name(&format!("pub-{at}"));
        let publisher =
            mqtt::Publisher::new(next(clients), version_of(at), name, topics.clone(), will.clone());
        clients.push(Box::new(publisher));
    }
    for (at, sink) in places.sessions.iter().enumerate() {
        let filter = (format!("{run}/s/+"), qos_of(at));
        let name = places.name(&format!("sub-{at}"));
        let subscriber = mqtt::Subscriber::new(next(clients), version_of(at), name, filter, *sink);
        clients.push(Box::new(subscriber));
    }
    if options.retained {
        let topics: Vec<String> = (0..RETAINED_TOPICS).map(|at| format!("{run}/r/{at}")).collect();
        let name = places.name("retainer");
        let retainer = mqtt::Retainer::new(next(clients), version_of(0), name, topics.clone());
        clients.push(Box::new(retainer));
        let name = places.name("watcher");
        clients.push(Box::new(mqtt::Watcher::new(next(clients), version_of(1), name, topics)));
    }
}
