//! `koine start` and `koine demo`: a broker from beginning to end, around what people and scripts see
//! of it.

use crate::banner::Banner;
use crate::cli::DemoCommand;
use crate::config::{Config, Durability};
use crate::demo::{self, flights, Plan};
use crate::runtime::Broker;
use crate::terminal::Style;
use crate::{logging, ready_file};
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{signal, SignalKind};

/// A stop that takes longer has met a disk or thread that does not answer. Below the half minute after
/// which orchestrators kill.
const STOP_MAX: Duration = Duration::from_secs(28);

/// Runs until SIGTERM or SIGINT; a second signal ends the process at once, and so does the end of
/// [`STOP_MAX`]. What was acknowledged is safe either way.
pub fn run(config: &Config, started: Instant) -> Result<(), String> {
    logging::start(&config.log);
    let signals = Signals::new()?;
    let broker = Broker::start(config).map_err(|error| error.to_string())?;
    let startup_ms = started.elapsed().as_millis() as u64;
    if let Some(path) = &config.ready_file {
        ready_file::write(path, startup_ms, broker.listeners())
            .map_err(|error| format!("ready file {}: {error}", path.display()))?;
    }
    let banner = Banner {
        data: &config.data,
        durability: promise(config.topics.durability),
        startup_ms,
        listeners: broker.listeners(),
    };
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; the broker runs all the same.
    let _ = out.write_all(banner.render(Style::of_stdout()).as_bytes()).and_then(|()| out.flush());
    drop(out);
    signals.wait();
    tracing::info!("stopping");
    signals.exit_on_next();
    exit_after(STOP_MAX);
    broker.stop();
    tracing::info!("stopped");
    Ok(())
}

fn promise(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "on disk (fsync)",
        Durability::Replicated => "replicated in memory",
        Durability::Memory => "in memory",
    }
}

/// SIGTERM and SIGINT, caught from the moment this exists.
struct Signals {
    runtime: tokio::runtime::Runtime,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Signals { runtime: runtime.map_err(|error| format!("cannot catch signals: {error}"))? })
    }

    fn wait(&self) {
        self.runtime.block_on(one_signal());
    }

    /// From another thread, so that a stop that hangs can still be cut short.
    fn exit_on_next(self) {
        std::thread::spawn(move || {
            self.wait();
            std::process::exit(130);
        });
    }
}

fn exit_after(wait: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(wait);
        tracing::error!("the stop takes too long; ending without it");
        std::process::exit(1);
    });
}

async fn one_signal() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without signals the process runs until it is killed, which the log survives.
        _ => std::future::pending().await,
    }
}

/// Replays the flights through a fresh broker, or the running one. The exit code tells whether every
/// cell is right.
pub fn demo(command: &DemoCommand, mut config: Config) -> Result<ExitCode, String> {
    let flights = match (&command.data_file, command.full) {
        (Some(path), _) => flights::from_file(path),
        (None, true) => flights::from_package(),
        (None, false) => flights::slice(),
    };
    let flights = flights.map_err(|error| error.to_string())?;
    let prefix = match command.connect {
        true => format!("flights-{}", std::process::id()),
        false => "flights".to_owned(),
    };
    let fresh = (!command.connect).then(|| FreshBroker::start(&mut config, command)).transpose()?;
    let listeners = match &fresh {
        Some(fresh) => fresh.broker.listeners().to_vec(),
        None => configured(&config)?,
    };
    let address = |key: &str| {
        let found = listeners.iter().find(|(name, _)| *name == key).map(|(_, address)| *address);
        found.ok_or_else(|| format!("the demo needs the {key} listener, which is off"))
    };
    let plan = Plan {
        flights: &flights,
        speed: command.speed,
        kafka: address("kafka")?,
        amqp: address("amqp")?,
        mqtt: address("mqtt")?,
        prefix: &prefix,
    };
    let began = Instant::now();
    let report = demo::run(&plan, Style::of_stdout());
    if let Some(fresh) = fresh {
        fresh.stop();
    }
    let report = report.map_err(|error| error.to_string())?;
    let mut out = std::io::stdout().lock();
    let _ = match command.json {
        true => writeln!(out, "{:#}", report.json),
        false => writeln!(
            out,
            "{}\n{} flights in {:.1} s, each acknowledged when {}.",
            report.text,
            flights.len(),
            began.elapsed().as_secs_f64(),
            promise(config.topics.durability)
        ),
    };
    Ok(if report.right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the running broker should be.
fn configured(config: &Config) -> Result<Vec<(&'static str, SocketAddr)>, String> {
    let resolve = |(key, listen): (&'static str, &crate::config::Listen)| {
        let found = (listen.host.as_str(), listen.port)
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next());
        found.map(|address| (key, address)).ok_or_else(|| format!("{key}: cannot resolve {listen}"))
    };
    config.listeners().map(resolve).collect()
}

/// A broker in this process, in a directory of its own that goes with it.
struct FreshBroker {
    broker: Broker,
    /// `None` if the user named a directory, which stays.
    directory: Option<PathBuf>,
}

impl FreshBroker {
    fn start(config: &mut Config, command: &DemoCommand) -> Result<Self, String> {
        config.log.level = config.log.level.min(tracing::Level::WARN);
        logging::start(&config.log);
        let given = |key: &str| command.flags.settings.iter().any(|(name, _)| *name == key);
        let mut directory = None;
        if !given("data") {
            config.data = std::env::temp_dir().join(format!("koine-demo-{}", std::process::id()));
            directory = Some(config.data.clone());
        }
        for (key, listen) in config.listen.by_key() {
            if let (Some(listen), false) = (listen, given(key)) {
                listen.port = 0;
            }
        }
        let broker = Broker::start(config).map_err(|error| error.to_string())?;
        Ok(FreshBroker { broker, directory })
    }

    fn stop(self) {
        self.broker.stop();
        if let Some(directory) = self.directory {
            // What stays is in the system's temporary directory.
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}
