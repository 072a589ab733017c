//! What every fault needs: a broker on its data, clients that load it, and the steps from one life to the next.

use std::path::Path;
use std::time::{Duration, Instant};

use koine_base::rng::Rng;

use super::Options;
use crate::broker::{Process, Start};
use crate::load::site::Addresses;
use crate::load::{Clients, PAUSE};
use crate::report::Row;

/// How long a start may take, recovery included.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long each protocol may take to its first acknowledgement after that.
const SERVICE_LIMIT: Duration = Duration::from_secs(30);

pub struct Stage {
    pub start: Start,
    pub process: Option<Process>,
    pub addresses: Option<Addresses>,
    pub clients: Clients,
    pub rng: Rng,
}

impl Stage {
    /// Nothing runs yet. `data` may be on another file system than the rest.
    pub fn new(options: &Options, data: &Path, arguments: &[&str]) -> Result<Stage, String> {
        std::fs::create_dir_all(&options.directory)
            .map_err(|error| format!("{}: {error}", options.directory.display()))?;
        Ok(Stage {
            start: Start {
                koine: options.koine.clone(),
                directory: options.directory.clone(),
                data: data.to_owned(),
                arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
                wrapper: Vec::new(),
            },
            process: None,
            addresses: None,
            clients: Clients::start(options.seed),
            rng: Rng::new(options.seed ^ 0x5eed),
        })
    }

    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let spread = most.saturating_sub(least).as_micros().max(1) as u64;
        least + Duration::from_micros(self.rng.below(spread))
    }

    pub fn spawn(&mut self) -> Result<(), String> {
        self.clients.load.site.starting();
        self.process = Some(self.start.spawn()?);
        Ok(())
    }

    /// Starts it and waits until it listens.
    pub fn up(&mut self) -> Result<(), String> {
        self.spawn()?;
        let process = self.process.as_mut().ok_or("no process")?;
        let addresses = process.wait_ready(START_LIMIT).map_err(|why| format!("start: {why}"))?;
        self.clients.load.site.up(addresses.clone());
        self.addresses = Some(addresses);
        Ok(())
    }

    /// From the start of the process until each protocol had an acknowledgement.
    pub fn wait_service(&mut self) -> Result<Duration, String> {
        let since = Instant::now();
        loop {
            let first = self.clients.load.site.first();
            if let [Some(kafka), Some(amqp), Some(mqtt)] = first {
                return Ok(kafka.max(amqp).max(mqtt));
            }
            if !self.process.as_mut().is_some_and(Process::is_running) {
                return Err("the broker ended by itself".to_owned());
            }
            if since.elapsed() > SERVICE_LIMIT {
                let ledger = &self.clients.load.ledger;
                let why = format!("{:?} {:?}", ledger.complaints(), ledger.signals());
                return Err(format!("no service {SERVICE_LIMIT:?} after it: {first:?} {why}"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    pub fn kill(&mut self) {
        self.clients.load.site.down();
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGKILL some of the times in the middle of starting, up to three times in a row; then a start that lasts.
    pub fn up_through_kills(
        &mut self,
        mut between: impl FnMut(&mut Stage) -> Result<(), String>,
    ) -> Result<u64, String> {
        let mut kills = 0;
        while kills < 3 && self.rng.chance(1, 4) {
            self.spawn()?;
            let wait = self.between(Duration::ZERO, Duration::from_millis(60));
            std::thread::sleep(wait);
            between(self)?;
            self.kill();
            kills += 1;
        }
        Ok(kills)
    }

    /// Takes the load up again after it settled.
    pub fn go_on(&self) {
        self.clients.load.site.set_writing(true);
    }

    /// Everything that is acknowledged by now has been read, or the row fails.
    pub fn check(&self, row: &mut Row) {
        let sums = self.clients.settle();
        if !sums.is_clean() {
            row.failures.push(format!("{sums:?}"));
            row.failures.extend(self.clients.load.ledger.complaints());
        }
    }

    /// [`Self::check`] between two cycles: the load goes on, unless something is wrong.
    pub fn check_and_go_on(&self, row: &mut Row) -> bool {
        self.check(row);
        if row.passed() {
            self.go_on();
        }
        row.passed()
    }

    /// The last check; fills the row.
    pub fn finish(mut self, row: &mut Row) -> Result<(), String> {
        let addresses = self.addresses.clone().ok_or("the broker never was up")?;
        let load = std::sync::Arc::clone(&self.clients.load);
        row.sums = self.clients.finish(&addresses);
        let sums = row.sums;
        if !sums.is_clean() && row.passed() {
            row.failures.push(format!("{sums:?}"));
            row.failures.extend(load.ledger.lost().into_iter().take(20));
            row.failures.extend(load.ledger.complaints());
        }
        let [kafka, amqp, mqtt] = load.ledger.acknowledged_by_protocol();
        row.notes.push(format!(
            "of the steady load kafka {kafka}, amqp {amqp}, mqtt {mqtt}; {} without an acknowledgement were read as well",
            sums.recovered
        ));
        for (signal, count) in load.ledger.signals() {
            row.notes.push(format!("seen {count} x {signal}"));
        }
        if let Some(process) = self.process.take() {
            process.kill();
        }
        Ok(())
    }
}
