//! 30 GB that nobody reads, in a broker that may use 512 MiB, page cache included; then all of it read at full speed.

use super::stage::Stage;
use super::Options;
use crate::broker::Process;
use crate::load::bulk::{drain_queue, fill_queue, megabytes_per_second, Topic};
use crate::report::Row;
use koine_workload::cgroup::MemoryGroup;

const MEMORY_BYTES: u64 = 512 << 20;
const LOG_BYTES: u64 = 28 << 30;
const QUEUE_COUNT: u64 = 2_000_000;
const QUEUE_BYTES: u64 = QUEUE_COUNT * 1024;
const FREE_BYTES_MIN: u64 = 45 << 30;

pub fn run(options: &Options, row: &mut Row) -> Result<(), String> {
    let bar = options.progress("backlog", 4);
    super::require_free(options, FREE_BYTES_MIN)?;
    let group = MemoryGroup::make(MEMORY_BYTES)?;
    let mut stage = Stage::new(options, &options.directory.join("data"), &[])?;
    stage.start.wrapper = group.wrapper();
    stage.up()?;
    stage.wait_service()?;
    let outcome = through(&mut stage, row, &bar);
    bar.finish_and_clear();
    let peak = stage.process.as_ref().map_or(0, Process::peak_resident_bytes);
    row.notes.push(format!(
        "peak resident {} MiB, peak of the control group {} MiB, {} killed for memory",
        peak >> 20,
        group.peak_bytes() >> 20,
        group.kills()
    ));
    outcome?;
    row.cycles = 1;
    if group.kills() > 0 {
        row.failures.push("killed for memory".to_owned());
    }
    stage.finish(row)
}

fn through(stage: &mut Stage, row: &mut Row, bar: &indicatif::ProgressBar) -> Result<(), String> {
    let addresses = stage.addresses.clone().ok_or("no addresses")?;
    let failed = |what: &'static str| move |error| format!("{what}: {error}");
    let mut topic = Topic::new("bulk");
    bar.set_message("writing the log");
    let took =
        topic.write(&addresses.kafka, LOG_BYTES, || false).map_err(failed("writing the log"))?;
    row.notes.push(format!("kafka: 28 GiB in at {}", megabytes_per_second(LOG_BYTES, took)));
    bar.inc(1);
    bar.set_message("filling the queue");
    let took = fill_queue(&addresses.amqp, "bulk-queue", QUEUE_COUNT)
        .map_err(failed("filling the queue"))?;
    row.notes.push(format!(
        "amqp: 2 million messages in at {}",
        megabytes_per_second(QUEUE_BYTES, took)
    ));
    bar.inc(1);
    bar.set_message("reading the log");
    let took = topic.read(&addresses.kafka).map_err(failed("reading the log"))?;
    row.notes.push(format!("kafka: 28 GiB out at {}", megabytes_per_second(topic.bytes(), took)));
    bar.inc(1);
    bar.set_message("draining the queue");
    let took = drain_queue(&addresses.amqp, "bulk-queue", QUEUE_COUNT)
        .map_err(failed("draining the queue"))?;
    row.notes.push(format!(
        "amqp: 2 million messages out at {}",
        megabytes_per_second(QUEUE_BYTES, took)
    ));
    bar.inc(1);
    Ok(())
}
