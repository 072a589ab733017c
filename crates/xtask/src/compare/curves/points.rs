//! What is measured: each curve's points, and the load of each as arguments of `koine-bench`.

/// One curve: a cost as something grows.
pub struct Curve {
    pub name: &'static str,
    pub title: &'static str,
    /// What grows.
    pub axis: &'static str,
    /// How the load goes with it.
    pub load: &'static str,
    points: fn() -> Vec<Point>,
}

impl Curve {
    pub fn points(&self) -> Vec<Point> {
        (self.points)()
    }
}

pub struct Point {
    /// Protocol and promise.
    pub line: &'static str,
    pub x: u64,
    /// Done once on the fresh broker, then before each later run.
    pub fill: Option<Vec<String>>,
    pub refill: Option<Vec<String>>,
    pub load: Vec<String>,
    /// Body bytes.
    pub size: u64,
    /// Of the disk, at most.
    pub disk_bytes: u64,
}

const KAFKA: &str = "Kafka fsync";
const AMQP: &str = "AMQP fsync";
const MQTT_0: &str = "MQTT QoS 0";
const MQTT_1: &str = "MQTT QoS 1, memory";
/// What a run of a few seconds may leave on the disk before it is deleted.
const RUN_BYTES: u64 = 6 << 30;
const BODY_BYTES: u64 = 100;

pub const CURVES: &[Curve] = &[
    Curve {
        name: "queues",
        title: "messages per second by queues or topics",
        axis: "queues, topics",
        load: "100 B; the load goes over all of them in turn, one connection for publishing and one for consuming for \
               each thousand of them; AMQP queues are durable, messages persistent and confirmed",
        points: queues,
    },
    Curve {
        name: "backlog",
        title: "messages per second with a backlog",
        axis: "GB of backlog",
        load: "1 KiB, one queue or partition, produced and consumed at once. Kafka's consumer reads what is produced, behind \
               the backlog; AMQP's reads the backlog's head, and what it took is put back before the next run",
        points: backlog,
    },
    Curve {
        name: "sizes",
        title: "messages per second by size",
        axis: "body bytes",
        load: "one to one; Kafka in batches of 100 kB, at most 1,000 records",
        points: sizes,
    },
    Curve {
        name: "connections",
        title: "messages per second by connections",
        axis: "connections a side",
        load: "100 B; so many producers and so many consumers, each pair with a partition, queue or topic of its own; \
               Kafka in batches of 100",
        points: connections,
    },
    Curve {
        name: "partitions",
        title: "records per second by partitions of one topic",
        axis: "partitions",
        load: "100 B in batches of 100, one producer for all partitions in turn, one consumer that asks for all of them in \
               every fetch",
        points: partitions,
    },
];

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn point(line: &'static str, x: u64, size: u64, load: String) -> Point {
    let protocol = match line {
        KAFKA => "kafka --durability fsync",
        AMQP => "amqp --durability fsync",
        MQTT_1 => "mqtt --qos 1",
        _ => "mqtt",
    };
    Point {
        line,
        x,
        fill: None,
        refill: None,
        load: words(&format!("{protocol} --size {size} {load}")),
        size,
        disk_bytes: RUN_BYTES,
    }
}

fn queues() -> Vec<Point> {
    let counts = [1, 100, 10_000, 100_000];
    let of = |line| {
        counts.map(|count: u64| {
            let connections = count.div_ceil(1000);
            // Kept from run to run; they go with the directory.
            let load = format!("--lanes {count} --connections {connections} --name queues --keep");
            point(line, count, BODY_BYTES, load)
        })
    };
    [of(AMQP), of(MQTT_0)].into_iter().flatten().collect()
}

fn backlog() -> Vec<Point> {
    const SIZE: u64 = 1024;
    /// Put back before each run but the first: about what one takes away.
    const AGAIN_BYTES: u64 = 1_000_000_000;
    // A queue's consumer would be through one gigabyte before its run is over.
    let sizes: [(&str, &str, &[u64]); 2] =
        [(KAFKA, "--batch 100", &[0, 1, 10]), (AMQP, "", &[0, 10])];
    let mut points = Vec::new();
    for (line, shape, gigabytes) in sizes {
        for gigabytes in gigabytes.iter().copied() {
            let common = format!("{shape} --name backlog --keep");
            let standing = if line == AMQP && gigabytes > 0 { "--standing" } else { "" };
            let mut made = point(line, gigabytes, SIZE, format!("{common} {standing}"));
            let put = |bytes: u64| {
                let messages = bytes / SIZE;
                let mode = format!("{common} --mode produce --messages {messages}");
                point(line, gigabytes, SIZE, mode).load
            };
            if gigabytes > 0 {
                made.fill = Some(put(gigabytes * 1_000_000_000));
                made.disk_bytes += gigabytes * 1_200_000_000;
            }
            if !standing.is_empty() {
                made.refill = Some(put(AGAIN_BYTES));
            }
            points.push(made);
        }
    }
    points
}

fn sizes() -> Vec<Point> {
    let mut points = Vec::new();
    for line in [KAFKA, AMQP, MQTT_0, MQTT_1] {
        for size in [16, 100, 1024, 16 << 10, 128 << 10, 1_000_000] {
            // So many bytes under way and no more, or the sizes would differ by what they queue up.
            let within = |bytes: u64, most: u64| (bytes / size).clamp(1, most);
            let load = match line {
                KAFKA => format!("--batch {}", within(100_000, 1000)),
                AMQP => {
                    let window = within(16 << 20, 1000);
                    format!("--window {window} --prefetch {window}")
                }
                MQTT_0 => format!("--end-to-end {}", within(2 << 20, 20_000)),
                _ => {
                    let window = within(2 << 20, 100);
                    format!("--window {window} --end-to-end {}", within(2 << 20, 20_000))
                }
            };
            points.push(point(line, size, size, load));
        }
    }
    points
}

fn connections() -> Vec<Point> {
    let mut points = Vec::new();
    for line in [KAFKA, AMQP, MQTT_0, MQTT_1] {
        for count in [1, 10, 100, 1000] {
            let window = match line {
                KAFKA => "--batch 100".to_owned(),
                AMQP => format!("--window {}", (100_000 / count).clamp(10, 1000)),
                MQTT_1 => "--window 100".to_owned(),
                _ => String::new(),
            };
            let load = format!("--connections {count} --lanes {count} {window}");
            points.push(point(line, count, BODY_BYTES, load));
        }
    }
    points
}

fn partitions() -> Vec<Point> {
    let counts = [1, 10, 100, 1000, 10_000];
    let load = |count| point(KAFKA, count, BODY_BYTES, format!("--batch 100 --lanes {count}"));
    counts.map(load).into()
}
