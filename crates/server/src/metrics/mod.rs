//! What the broker counts. Each shard owns its numbers as plain integers and hands out a copy when
//! asked; the copies are added up at scrape time, so the data path pays an increment and nothing else.

pub mod encryption;
pub mod engine;
pub mod exposition;
pub mod histogram;
pub mod load;
pub mod objects;

use crate::machine::ProcessUse;
use exposition::Exposition;
use histogram::Histogram;

pub use koine_broker::session::Protocol;

/// The protocols that a socket can speak, in the order of every table here: by their index.
pub const PROTOCOLS: [Protocol; 3] = [Protocol::Kafka, Protocol::Amqp091, Protocol::Mqtt];

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed or vanished.
    Peer,
    /// We ended it: the protocol says so, or the peer broke its rules.
    Session,
    /// The broker is shutting down.
    Shutdown,
}

impl CloseReason {
    const ALL: [CloseReason; 3] = [CloseReason::Peer, CloseReason::Session, CloseReason::Shutdown];

    pub fn name(self) -> &'static str {
        match self {
            CloseReason::Peer => "peer",
            CloseReason::Session => "session",
            CloseReason::Shutdown => "shutdown",
        }
    }
}

/// Why a socket did not become a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The node has as many as it may.
    TooMany,
    /// Its address has as many as it may, or there is no room to count for it.
    Address,
    /// Its address makes new ones too fast.
    Rate,
    /// Plain, where TLS is required.
    Plain,
    /// No TLS connection came about: rules broken, or no good certificate.
    Handshake,
    /// Its first byte, or its handshake, took too long.
    Slow,
    /// It left before either.
    Left,
}

impl Refusal {
    const ALL: [Refusal; 7] = [
        Refusal::TooMany,
        Refusal::Address,
        Refusal::Rate,
        Refusal::Plain,
        Refusal::Handshake,
        Refusal::Slow,
        Refusal::Left,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Refusal::TooMany => "connections",
            Refusal::Address => "address",
            Refusal::Rate => "rate",
            Refusal::Plain => "plain",
            Refusal::Handshake => "handshake",
            Refusal::Slow => "slow",
            Refusal::Left => "left",
        }
    }
}

/// How often, by [`Refusal`].
#[derive(Clone, Debug, Default)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    pub fn add(&mut self, refusal: Refusal) {
        self.0[refusal as usize] += 1;
    }

    fn merge(&mut self, other: &Refusals) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// Sockets of one protocol on one shard.
#[derive(Clone, Debug, Default)]
pub struct ConnectionCounts {
    pub opened: u64,
    pub refused: Refusals,
    /// By [`CloseReason`].
    pub closed: [u64; 3],
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl ConnectionCounts {
    pub fn open(&self) -> u64 {
        self.opened - self.closed.iter().sum::<u64>()
    }

    pub fn close(&mut self, reason: CloseReason) {
        self.closed[reason as usize] += 1;
    }

    fn merge(&mut self, other: &ConnectionCounts) {
        self.opened += other.opened;
        self.refused.merge(&other.refused);
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        for (mine, theirs) in self.closed.iter_mut().zip(other.closed) {
            *mine += theirs;
        }
    }
}

/// Everything one shard's runtime counts.
#[derive(Clone, Default)]
pub struct RuntimeCounts {
    pub connections: [ConnectionCounts; 3],
    /// HTTP connections that were refused.
    pub http_refused: Refusals,
    /// Microseconds from handing a request to a disk thread until it is done, by lane.
    pub disk_wal: Histogram,
    pub disk_read: Histogram,
    pub disk_background: Histogram,
    pub mailbox_messages: u64,
    pub mailbox_batches: u64,
}

impl RuntimeCounts {
    pub fn of(&mut self, protocol: Protocol) -> &mut ConnectionCounts {
        &mut self.connections[protocol as usize]
    }

    pub fn merge(&mut self, other: &RuntimeCounts) {
        for (mine, theirs) in self.connections.iter_mut().zip(&other.connections) {
            mine.merge(theirs);
        }
        self.http_refused.merge(&other.http_refused);
        self.disk_wal.merge(&other.disk_wal);
        self.disk_read.merge(&other.disk_read);
        self.disk_background.merge(&other.disk_background);
        self.mailbox_messages += other.mailbox_messages;
        self.mailbox_batches += other.mailbox_batches;
    }

    pub fn expose(&self, page: &mut Exposition) {
        let rows = || {
            PROTOCOLS
                .iter()
                .map(|protocol| (protocol.name(), &self.connections[*protocol as usize]))
        };
        page.gauge("koine_connections", "Client connections open now.");
        rows().for_each(|(name, counts)| {
            page.sample(&[("protocol", name)], counts.open());
        });
        page.counter("koine_connections_opened_total", "Client connections accepted.");
        rows().for_each(|(name, counts)| {
            page.sample(&[("protocol", name)], counts.opened);
        });
        page.counter(
            "koine_connections_closed_total",
            "Client connections ended, by who ended them.",
        );
        rows().for_each(|(name, counts)| {
            for reason in CloseReason::ALL {
                page.sample(
                    &[("protocol", name), ("reason", reason.name())],
                    counts.closed[reason as usize],
                );
            }
        });
        page.counter(
            "koine_connections_rejected_total",
            "Client connections that ended before their protocol began, by reason.",
        );
        let refused = rows().map(|(name, counts)| (name, &counts.refused));
        for (name, refused) in refused.chain([("http", &self.http_refused)]) {
            for reason in Refusal::ALL {
                let labels = [("protocol", name), ("reason", reason.name())];
                page.sample(&labels, refused.0[reason as usize]);
            }
        }
        page.counter("koine_network_bytes_total", "Bytes read from and written to client sockets.");
        rows().for_each(|(name, counts)| {
            page.sample(&[("protocol", name), ("direction", "in")], counts.bytes_in);
            page.sample(&[("protocol", name), ("direction", "out")], counts.bytes_out);
        });
        page.histogram_family(
            "koine_disk_request_duration_seconds",
            "Disk requests, waiting for the disk thread included.",
        )
        .seconds(&[("kind", "wal")], &self.disk_wal)
        .seconds(&[("kind", "read")], &self.disk_read)
        .seconds(&[("kind", "background")], &self.disk_background);
        page.counter("koine_shard_messages_total", "Messages between event loops.")
            .sample(&[], self.mailbox_messages);
        page.counter(
            "koine_shard_message_batches_total",
            "Batches in which they travelled, one wake each.",
        )
        .sample(&[], self.mailbox_batches);
    }
}

/// Facts about the process and its machine that need no shard.
pub struct Surroundings {
    pub process: ProcessUse,
    pub started_unix_seconds: f64,
    pub memory_limit_bytes: u64,
    pub disk_free_bytes: Option<u64>,
}

impl Surroundings {
    pub fn expose(&self, page: &mut Exposition) {
        page.gauge("koine_build_info", "Always 1; the labels say which build runs.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.counter("process_cpu_seconds_total", "User and system CPU time of the process.")
            .sample(&[], self.process.cpu_seconds);
        page.gauge("process_resident_memory_bytes", "Resident memory.")
            .sample(&[], self.process.resident_bytes);
        page.gauge("process_virtual_memory_bytes", "Virtual memory.")
            .sample(&[], self.process.virtual_bytes);
        page.gauge("process_threads", "Threads.").sample(&[], self.process.threads);
        page.gauge("process_open_fds", "Open file descriptors.")
            .sample(&[], self.process.open_files);
        page.gauge("process_max_fds", "Most file descriptors allowed.")
            .sample(&[], self.process.open_files_max);
        page.gauge("process_start_time_seconds", "Unix time of the start.")
            .sample(&[], self.started_unix_seconds);
        page.gauge(
            "koine_memory_limit_bytes",
            "Memory of the machine or of the container around the process.",
        )
        .sample(&[], self.memory_limit_bytes);
        if let Some(free) = self.disk_free_bytes {
            page.gauge("koine_disk_free_bytes", "Bytes free where the data directory is.")
                .sample(&[], free);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::exposition::Format;
    use super::*;

    #[test]
    fn shards_add_up() {
        let mut one = RuntimeCounts::default();
        one.of(Protocol::Mqtt).opened = 3;
        one.of(Protocol::Mqtt).close(CloseReason::Peer);
        let mut total = one.clone();
        one.of(Protocol::Mqtt).bytes_in = 7;
        total.merge(&one);
        let mut page = Exposition::new(Format::Text);
        total.expose(&mut page);
        let text = page.finish();
        assert!(text.contains("koine_connections{protocol=\"mqtt\"} 4\n"));
        assert!(
            text.contains("koine_connections_closed_total{protocol=\"mqtt\",reason=\"peer\"} 2\n")
        );
        assert!(text.contains("koine_network_bytes_total{protocol=\"mqtt\",direction=\"in\"} 7\n"));
    }
}
