//! SIGSTOP for longer than every time-out that the clients agreed on (AMQP heartbeats, MQTT keep-alive), then SIGCONT.

use std::time::Duration;

use super::stage::Stage;
use super::{kill, Options};
use crate::load::{amqp, mqtt};
use crate::report::Row;

const CYCLES: u64 = 5;
const LIFE: Duration = Duration::from_secs(2);

pub fn run(options: &Options, row: &mut Row) -> Result<(), String> {
    let cycles = options.cycles(CYCLES);
    let bar = options.progress("pause", cycles);
    let longest = amqp::HEARTBEAT_SECONDS.max(mqtt::KEEP_ALIVE_SECONDS);
    let pause = Duration::from_secs(u64::from(longest) * 2 + 4);
    let mut stage = Stage::new(options, &options.directory.join("data"), &kill::ARGUMENTS)?;
    stage.up()?;
    stage.wait_service()?;
    for _ in 0..cycles {
        std::thread::sleep(LIFE);
        signal(&stage, "STOP")?;
        std::thread::sleep(pause);
        stage.clients.load.site.relieved();
        signal(&stage, "CONT")?;
        row.cycles += 1;
        row.recovery.push(stage.wait_service()?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    row.notes.push(format!("stopped for {} s each time", pause.as_secs()));
    stage.finish(row)
}

fn signal(stage: &Stage, name: &str) -> Result<(), String> {
    stage.process.as_ref().ok_or("no process")?.signal(name)
}
