//! What protocols and log count, as metric families.

use super::exposition::Exposition;
use super::PROTOCOLS;
use koine_broker::message::Origin;
use koine_broker::session::{Meter, LATENCY_BUCKETS};
use koine_log::Stats;

/// Origins as the writer's protocol; forwarded Kafka records are Kafka's.
const WRITERS: [(&str, &[Origin]); 3] = [
    ("kafka", &[Origin::Kafka, Origin::KafkaForwarded]),
    ("amqp", &[Origin::Amqp091]),
    ("mqtt", &[Origin::Mqtt]),
];
/// Powers of two in microseconds that are shown: 16 us to 67 s.
const LATENCY_POWERS: std::ops::RangeInclusive<usize> = 4..=26;

pub fn merge_meter(sum: &mut Meter, other: &Meter) {
    sum.messages_in += other.messages_in;
    sum.message_bytes_in += other.message_bytes_in;
    sum.messages_out += other.messages_out;
    sum.message_bytes_out += other.message_bytes_out;
    sum.acked += other.acked;
    sum.redelivered += other.redelivered;
    sum.unroutable += other.unroutable;
    sum.dropped_slow += other.dropped_slow;
    sum.dropped_memory += other.dropped_memory;
    sum.dropped_no_space += other.dropped_no_space;
    sum.dropped_backlog_full += other.dropped_backlog_full;
    sum.dropped_undeliverable += other.dropped_undeliverable;
    sum.refused += other.refused;
    sum.evicted += other.evicted;
    sum.blocked += other.blocked;
    sum.violations += other.violations;
    sum.requests += other.requests;
    sum.request_errors += other.request_errors;
    for (mine, theirs) in sum.delivery_latency.iter_mut().zip(&other.delivery_latency) {
        mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
    }
    let sums = sum.delivery_latency_sum_us.iter_mut().zip(other.delivery_latency_sum_us);
    sums.for_each(|(mine, theirs)| *mine += theirs);
}

/// One counter of [`Meter`] by protocol.
struct Family {
    name: &'static str,
    help: &'static str,
    read: fn(&Meter) -> u64,
}

const FAMILIES: &[Family] = &[
    Family {
        name: "koine_messages_published_total",
        help: "Messages taken from clients.",
        read: |meter| meter.messages_in,
    },
    Family {
        name: "koine_messages_delivered_total",
        help: "Messages handed to clients.",
        read: |meter| meter.messages_out,
    },
    Family {
        name: "koine_messages_acked_total",
        help: "Deliveries acknowledged by clients.",
        read: |meter| meter.acked,
    },
    Family {
        name: "koine_messages_redelivered_total",
        help: "Deliveries flagged as redelivered.",
        read: |meter| meter.redelivered,
    },
    Family {
        name: "koine_messages_unroutable_total",
        help: "Published messages that reached nobody.",
        read: |meter| meter.unroutable,
    },
    Family {
        name: "koine_protocol_violations_total",
        help: "Peers that broke their protocol.",
        read: |meter| meter.violations,
    },
    Family {
        name: "koine_refused_total",
        help: "Operations and messages refused for lack of permission.",
        read: |meter| meter.refused,
    },
    Family {
        name: "koine_publishers_blocked_total",
        help: "Times that a connection was made to wait with a publish because of an alarm.",
        read: |meter| meter.blocked,
    },
    Family {
        name: "koine_connections_evicted_total",
        help: "Connections closed because they kept memory that others waited for.",
        read: |meter| meter.evicted,
    },
    Family {
        name: "koine_requests_total",
        help: "Requests of clients.",
        read: |meter| meter.requests,
    },
    Family {
        name: "koine_request_errors_total",
        help: "Requests answered with an error.",
        read: |meter| meter.request_errors,
    },
];

/// `meters` in the order of [`PROTOCOLS`].
pub fn expose_meters(page: &mut Exposition, meters: &[Meter; 3]) {
    let rows = || PROTOCOLS.iter().map(|protocol| protocol.name()).zip(meters);
    for family in FAMILIES {
        page.counter(family.name, family.help);
        for (protocol, meter) in rows() {
            page.sample(&[("protocol", protocol)], (family.read)(meter));
        }
    }
    page.counter("koine_message_bytes_total", "Bytes of message bodies from and to clients.");
    for (protocol, meter) in rows() {
        page.sample(&[("protocol", protocol), ("direction", "in")], meter.message_bytes_in);
        page.sample(&[("protocol", protocol), ("direction", "out")], meter.message_bytes_out);
    }
    page.counter("koine_messages_dropped_total", "Volatile or undeliverable messages dropped.");
    for (protocol, meter) in rows() {
        for (reason, count) in [
            ("slow_receiver", meter.dropped_slow),
            ("memory", meter.dropped_memory),
            ("no_space", meter.dropped_no_space),
            ("backlog_full", meter.dropped_backlog_full),
            ("undeliverable", meter.dropped_undeliverable),
        ] {
            page.sample(&[("protocol", protocol), ("reason", reason)], count);
        }
    }
    page.histogram_family("koine_delivery_latency_seconds", "Time from append to delivery.");
    for (protocol, meter) in rows() {
        for (writer, origins) in WRITERS {
            expose_latency(page, writer, protocol, meter, origins);
        }
    }
}

fn expose_latency(
    page: &mut Exposition,
    writer: &str,
    reader: &str,
    meter: &Meter,
    origins: &[Origin],
) {
    let mut counts = [0u64; LATENCY_BUCKETS];
    let mut sum_us = 0;
    for origin in origins {
        let index = usize::from(origin.number());
        counts
            .iter_mut()
            .zip(&meter.delivery_latency[index])
            .for_each(|(mine, theirs)| *mine += theirs);
        sum_us += meter.delivery_latency_sum_us[index];
    }
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return;
    }
    let mut rows = Vec::new();
    for power in LATENCY_POWERS {
        // Bucket i counts values below 2^i.
        let below: u64 = counts[..=power.min(LATENCY_BUCKETS - 1)].iter().sum();
        rows.push((1u64 << power, below));
    }
    page.seconds_from(&[("protocol_in", writer), ("protocol_out", reader)], &rows, sum_us, total);
}

/// Name, help and value of one family.
type Reading = (&'static str, &'static str, fn(&Stats) -> u64);

/// `logs` are the logs of all shards.
pub fn expose_logs(page: &mut Exposition, logs: &[Stats]) {
    let sum = |read: fn(&Stats) -> u64| logs.iter().map(read).sum::<u64>();
    let counters: [Reading; 11] = [
        ("koine_log_frames_appended_total", "Frames appended to the write-ahead logs.", |s| {
            s.frames_appended
        }),
        (
            "koine_log_appended_bytes_total",
            "Payload bytes appended to the write-ahead logs.",
            |s| s.payload_bytes_appended,
        ),
        ("koine_log_writes_total", "Writes to the write-ahead logs.", |s| s.wal_writes),
        ("koine_log_written_bytes_total", "Bytes written to the write-ahead logs.", |s| {
            s.wal_bytes_written
        }),
        ("koine_log_syncs_total", "Syncs of the write-ahead logs.", |s| s.wal_syncs),
        ("koine_log_checkpoints_total", "Checkpoints.", |s| s.checkpoints),
        (
            "koine_log_checkpoints_failed_total",
            "Checkpoints that failed and are tried again.",
            |s| s.checkpoints_failed,
        ),
        ("koine_segment_written_bytes_total", "Bytes that checkpoints wrote to segments.", |s| {
            s.segment_bytes_written
        }),
        ("koine_cache_hits_total", "Reads answered from the tail cache.", |s| s.cache_hits),
        ("koine_log_corrupt_reads_total", "Reads of damaged bytes.", |s| s.reads_corrupt),
        (
            "koine_log_repaired_bits_total",
            "Inverted bits on disk that were put right at the start.",
            |s| s.bits_repaired,
        ),
    ];
    for (name, help, read) in counters {
        page.counter(name, help).sample(&[], sum(read));
    }
    page.counter("koine_cache_misses_total", "Reads that went to disk.")
        .sample(&[("from", "wal")], sum(|s| s.cache_misses_wal))
        .sample(&[("from", "segment")], sum(|s| s.cache_misses_segment));
    let gauges: [Reading; 5] = [
        ("koine_log_files", "Write-ahead log files not yet covered by a checkpoint.", |s| {
            s.wal_files
        }),
        ("koine_segments", "Segment files.", |s| s.segments),
        ("koine_segment_bytes", "Bytes of segment files.", |s| s.segment_bytes),
        ("koine_cache_bytes", "Bytes in the tail caches.", |s| s.cache_bytes),
        ("koine_log_unwritten_bytes", "Bytes waiting for the disk.", |s| s.queued_bytes),
    ];
    for (name, help, read) in gauges {
        page.gauge(name, help).sample(&[], sum(read));
    }
}

#[cfg(test)]
mod tests {
    use super::super::exposition::Format;
    use super::*;

    #[test]
    fn latency_is_by_writer_and_reader() {
        let mut meter = Meter::default();
        meter.delivery_latency[usize::from(Origin::Kafka.number())][5] = 2;
        meter.delivery_latency[usize::from(Origin::KafkaForwarded.number())][10] = 1;
        meter.delivery_latency_sum_us[0] = 50;
        let mut sum = Meter::default();
        merge_meter(&mut sum, &meter);
        let mut page = Exposition::new(Format::Text);
        expose_meters(&mut page, &[Meter::default(), sum, Meter::default()]);
        let text = page.finish();
        let labels = "protocol_in=\"kafka\",protocol_out=\"amqp\"";
        assert!(text.contains(&format!(
            "koine_delivery_latency_seconds_bucket{{{labels},le=\"0.000016\"}} 0\n"
        )));
        assert!(text.contains(&format!(
            "koine_delivery_latency_seconds_bucket{{{labels},le=\"0.000032\"}} 2\n"
        )));
        assert!(text.contains(&format!("koine_delivery_latency_seconds_count{{{labels}}} 3\n")));
        assert!(!text.contains("protocol_in=\"mqtt\""));
    }
}
