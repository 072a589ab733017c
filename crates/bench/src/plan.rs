//! What to run, in words that fit every protocol. A "lane" is a Kafka partition, an AMQP queue or an
//! MQTT topic.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Produce,
    /// Reads a backlog that the run itself writes first (or that an earlier run left).
    Consume,
    Both,
    /// One message in flight from end to end.
    Latency,
    /// Makes the lanes and opens the producers' connections, and sends nothing.
    Idle,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Produce => "produce",
            Mode::Consume => "consume",
            Mode::Both => "both",
            Mode::Latency => "latency",
            Mode::Idle => "idle",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolName {
    Kafka,
    Amqp,
    Mqtt,
}

impl ProtocolName {
    pub fn name(self) -> &'static str {
        match self {
            ProtocolName::Kafka => "kafka",
            ProtocolName::Amqp => "amqp",
            ProtocolName::Mqtt => "mqtt",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub protocol: ProtocolName,
    pub mode: Mode,
    pub addr: String,
    /// Body bytes of a message.
    pub size: usize,
    /// Kafka: records per batch.
    pub batch: u32,
    /// Units (Kafka: batches, others: messages) of one producer that wait for the broker's
    /// acknowledgement; 0: none are asked for, or no bound.
    pub window: u64,
    /// Messages of all producers sent and not yet delivered; 0: no bound.
    pub end_to_end: u64,
    pub producers: usize,
    pub consumers: usize,
    pub lanes: usize,
    /// Messages per second of all producers together; `None` saturates.
    pub rate: Option<f64>,
    pub warmup: Duration,
    pub duration: Duration,
    /// How long to wait without progress for what is still under way at the end.
    pub drain: Duration,
    /// Words of the protocol decide what this means: see each protocol's `promise`.
    pub durability: Option<String>,
    /// Name of the topic, or prefix of the queues; `None` makes one for this run.
    pub given_name: Option<String>,
    pub keep: bool,
    /// Messages to write before a consume run.
    pub backlog: u64,
    /// A produce or consume run ends with so many messages instead of a time.
    pub messages: Option<u64>,
    /// What earlier runs left is in front: it counts as received, and nothing sent is waited for.
    pub standing: bool,
    /// One message (Kafka: batch) in this many has its whole body compared; 0: none.
    pub check_every: u64,
    pub threads: usize,
    /// Ask the kernel for events without ever sleeping.
    pub spin: bool,
    pub pids: Vec<u32>,
    pub json: bool,
    pub label: String,
    /// Tells this run's messages from other runs'.
    pub run: u16,
    /// A name and a password; without them AMQP says `guest` twice and the others nothing.
    pub login: Option<(String, String)>,
    // Kafka
    pub acks: i16,
    pub fetch_bytes: i32,
    // AMQP
    pub confirm: bool,
    pub prefetch: u16,
    pub auto_ack: bool,
    /// Deliveries per acknowledgement; 0: one acknowledgement for all that one read brought.
    pub ack_every: u64,
    pub queue_type: Option<String>,
    pub vhost: String,
    // MQTT
    pub qos: u8,
    pub mqtt_version: u8,
    pub persistent_session: bool,
}

impl Plan {
    pub fn name(&self) -> String {
        self.given_name.clone().unwrap_or_else(|| format!("bench-{:04x}", self.run))
    }

    /// The name of one lane where lanes are things of their own (queues, MQTT topics).
    pub fn lane_name(&self, lane: usize) -> String {
        match self.lanes {
            1 => self.name(),
            _ => format!("{}-{lane}", self.name()),
        }
    }

    /// Lanes of the producer or consumer `index` of `count`: all that are its turn, or if there are
    /// more connections than lanes, one that it shares.
    pub fn lanes_of(&self, index: usize, count: usize) -> Vec<usize> {
        if self.lanes >= count {
            (index..self.lanes).step_by(count).collect()
        } else {
            vec![index % self.lanes]
        }
    }

    /// Consumers that read `lane`.
    pub fn readers_of(&self, lane: usize) -> u64 {
        if self.consumers == 0 {
            return 0;
        }
        if self.lanes >= self.consumers {
            return 1;
        }
        ((self.consumers - lane - 1) / self.lanes + 1) as u64
    }

    /// The number that stamps carry for `producer` on `lane`. Dense where each producer has one lane
    /// or each lane one producer.
    pub fn source(&self, producer: usize, lane: usize) -> u32 {
        (if self.lanes >= self.producers { lane } else { producer }) as u32
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small plan to change in tests.
    pub(crate) fn plan() -> Plan {
        crate::args::parse(lexopt::Parser::from_iter(["koine-bench", "kafka"]))
            .expect("the shortest command line")
            .expect("is not a call for help")
    }

    #[test]
    fn lanes_are_shared_out_whole() {
        let check = |lanes, producers, consumers| {
            let mut plan = plan();
            (plan.lanes, plan.producers, plan.consumers) = (lanes, producers, consumers);
            let mut readers = vec![0; lanes];
            for index in 0..consumers {
                for lane in plan.lanes_of(index, consumers) {
                    readers[lane] += 1;
                }
            }
            for (lane, &count) in readers.iter().enumerate() {
                assert_eq!(plan.readers_of(lane), count, "{lanes} {consumers}");
            }
            let mut sources = std::collections::HashSet::new();
            for index in 0..producers {
                for lane in plan.lanes_of(index, producers) {
                    assert!(sources.insert(plan.source(index, lane)), "one producer per source");
                }
            }
        };
        for (lanes, producers, consumers) in
            [(1, 1, 1), (1, 3, 5), (6, 1, 2), (3, 1000, 10), (7, 2, 0), (100, 100, 100), (4, 6, 9)]
        {
            check(lanes, producers, consumers);
        }
    }
}
