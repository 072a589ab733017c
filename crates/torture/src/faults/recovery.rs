//! How long a broker with 10 GB takes from the start of its process until each protocol has an acknowledgement, after
//! it was killed in the middle of writing at full speed; with and without what the page cache remembers.

use std::time::Duration;

use super::stage::Stage;
use super::Options;
use crate::broker::run as command;
use crate::load::bulk::{megabytes_per_second, Topic};
use crate::report::{milliseconds, Row};

const CYCLES: u64 = 6;
const STORE_BYTES: u64 = 10 << 30;
/// Written at full speed before each further kill.
const MORE_BYTES: u64 = 1 << 30;
const FREE_BYTES_MIN: u64 = 25 << 30;

pub fn missing() -> Option<String> {
    let may = command("id", &["-u"]).as_deref() == Ok("0");
    (!may).then(|| "root, to drop the page cache".to_owned())
}

pub fn run(options: &Options, row: &mut Row) -> Result<(), String> {
    let cycles = options.cycles(CYCLES);
    let bar = options.progress("recovery", cycles);
    super::require_free(options, FREE_BYTES_MIN)?;
    let mut stage = Stage::new(options, &options.directory.join("data"), &[])?;
    stage.up()?;
    stage.wait_service()?;
    let mut topic = Topic::new("bulk");
    let written = write_and_kill(&mut stage, &mut topic, STORE_BYTES)?;
    row.notes.push(format!("10 GiB written at {}", megabytes_per_second(STORE_BYTES, written)));
    for cycle in 0..cycles {
        let cold = cycle % 2 == 1;
        if cold {
            command("sync", &[])?;
            std::fs::write("/proc/sys/vm/drop_caches", "3").map_err(|error| error.to_string())?;
        }
        stage.up()?;
        let process = stage.process.as_ref().ok_or("no process")?;
        let ready = process.started.elapsed();
        row.recovery.push(stage.wait_service()?);
        row.cycles += 1;
        let first =
            stage.clients.load.site.first().map(|time| time.map_or("-".to_owned(), milliseconds));
        row.notes.push(format!(
            "{} page cache: ready {}, first acknowledgement kafka {}, amqp {}, mqtt {}",
            if cold { "cold" } else { "warm" },
            milliseconds(ready),
            first[0],
            first[1],
            first[2]
        ));
        write_and_kill(&mut stage, &mut topic, MORE_BYTES)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    stage.up()?;
    let address = stage.addresses.as_ref().ok_or("no addresses")?.kafka.clone();
    let took = topic.read(&address).map_err(|error| format!("reading all of it: {error}"))?;
    row.notes.push(format!("all of it read at {}", megabytes_per_second(topic.bytes(), took)));
    stage.finish(row)
}

/// Kills while the writer has requests under way.
fn write_and_kill(stage: &mut Stage, topic: &mut Topic, bytes: u64) -> Result<Duration, String> {
    let address = stage.addresses.as_ref().ok_or("no addresses")?.kafka.clone();
    let took = topic.write(&address, bytes, || false).map_err(|error| format!("bulk: {error}"))?;
    stage.kill();
    Ok(took)
}
