//! The brokers, each started on free ports with its data below `target/compare`, and ended with the run. Kafka comes
//! from Maven; RabbitMQ, mosquitto and Java are Debian packages, and what is missing is said with the line that
//! installs it.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::directory;
use super::machine;
use super::results::{Run, FOOTPRINT};
use crate::{process, project};
use koine_workload::usage::Usage;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const KAFKA: &str = "org.apache.kafka:kafka_2.13:[4.0,5)";
const KAFKA_TOOLS: &str = "org.apache.kafka:kafka-tools:[4.0,5)";
const LOG4J: &str = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5";
const RABBITMQ_SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Koine,
    Kafka,
    RabbitMq,
    Mosquitto,
}

impl Kind {
    pub const PEERS: [Kind; 3] = [Kind::Kafka, Kind::RabbitMq, Kind::Mosquitto];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Koine => "Koine",
            Kind::Kafka => "Kafka",
            Kind::RabbitMq => "RabbitMQ",
            Kind::Mosquitto => "mosquitto",
        }
    }
}

/// A broker that accepts connections.
pub struct Running {
    kind: Kind,
    process: Child,
    /// Of everything it consists of.
    process_ids: Vec<u32>,
    /// Where a peer speaks its own protocol, and Koine Kafka's.
    address: String,
    /// By protocol, if it speaks several.
    addresses: Vec<(String, String)>,
    startup: Duration,
    /// Resident bytes, once it had nothing to do.
    idle_bytes: u64,
    epmd_port: Option<u16>,
    /// Removed when it has ended.
    data: PathBuf,
}

impl Running {
    pub fn start(kind: Kind) -> Result<Running, String> {
        let home = directory().join(kind.name().to_lowercase());
        let data = home.join("data");
        let _ = std::fs::remove_dir_all(&data);
        std::fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
        match kind {
            Kind::Koine => koine(&home, &data, &[], &[]),
            Kind::Kafka => kafka(&home, &data),
            Kind::RabbitMq => rabbitmq(&home, &data),
            Kind::Mosquitto => mosquitto(&home),
        }
    }

    /// Koine with nobody beside it: below `home`, run by `wrapper` (a program and arguments, or nothing), with `flags`
    /// of its own.
    pub fn alone(home: &Path, wrapper: &[String], flags: &[String]) -> Result<Running, String> {
        let data = home.join("data");
        let _ = std::fs::remove_dir_all(&data);
        std::fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
        koine(home, &data, wrapper, flags)
    }

    /// Waits for the port, then looks whom it consists of.
    fn settle(
        kind: Kind,
        mut process: Child,
        address: String,
        began: Instant,
    ) -> Result<Running, String> {
        while TcpStream::connect(&address).is_err() {
            if let Ok(Some(status)) = process.try_wait() {
                return Err(format!("{} ended: {status}", kind.name()));
            }
            if began.elapsed() > START_LIMIT {
                let _ = process.kill();
                return Err(format!("{} does not listen on {address}", kind.name()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let startup = began.elapsed();
        let process_ids = machine::family(process.id());
        let addresses = Vec::new();
        let mut running = Running {
            kind,
            process,
            process_ids,
            address,
            addresses,
            startup,
            idle_bytes: 0,
            epmd_port: None,
            data: directory().join(kind.name().to_lowercase()).join("data"),
        };
        machine::wait_until_idle(&running.process_ids);
        running.process_ids = machine::family(running.process.id());
        running.idle_bytes = running.usage().resident_bytes;
        Ok(running)
    }

    /// Where it speaks this protocol.
    pub fn address_of(&self, protocol: &str) -> &str {
        let found = self.addresses.iter().find(|(name, _)| name == protocol);
        found.map_or(&self.address, |(_, address)| address)
    }

    /// How fast it came up, and what it held when it had nothing to do.
    pub fn footprint(&self) -> Run {
        Run {
            case: FOOTPRINT.to_owned(),
            side: self.kind.name().to_owned(),
            is_clean: true,
            startup_ms: Some(self.startup.as_secs_f64() * 1e3),
            resident_bytes: Some(self.idle_bytes as f64),
            ..Run::default()
        }
    }

    pub fn pids(&self) -> String {
        let ids: Vec<String> = self.process_ids.iter().map(u32::to_string).collect();
        ids.join(",")
    }

    pub fn usage(&self) -> Usage {
        Usage::of(&self.process_ids)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The whole group: what listens is not always what was started.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let began = Instant::now();
        while !matches!(self.process.try_wait(), Ok(Some(_))) {
            if began.elapsed() > STOP_LIMIT {
                let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
                let _ = self.process.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(port) = self.epmd_port {
            let mut stop = Command::new("epmd");
            stop.args(["-port", &port.to_string(), "-kill"]);
            let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

fn spawn(command: &mut Command, log: &Path) -> Result<Child, String> {
    let open = || File::create(log).map_err(|error| format!("{}: {error}", log.display()));
    let (out, err) = (open()?, open()?);
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    let name = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|error| format!("{name}: {error}"))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn koine(
    home: &Path,
    data: &Path,
    wrapper: &[String],
    flags: &[String],
) -> Result<Running, String> {
    let ready = home.join("ready.json");
    let _ = std::fs::remove_file(&ready);
    let program = project::target().join("release/koine");
    let mut command = match wrapper.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.arg("start").arg("--data").arg(data).arg("--ready-file").arg(&ready).args(flags);
    for listener in ["--kafka", "--amqp", "--mqtt", "--http"] {
        command.args([listener, "127.0.0.1:0"]);
    }
    let began = Instant::now();
    let mut process = spawn(&mut command, &home.join("log.txt"))?;
    let text = loop {
        if let Ok(text) = std::fs::read_to_string(&ready) {
            break text;
        }
        if process.try_wait().ok().flatten().is_some() || began.elapsed() > START_LIMIT {
            let _ = process.kill();
            return Err(format!("Koine did not start: see {}", home.display()));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let address = |name: &str| json["listeners"][name].as_str().unwrap_or_default().to_owned();
    let mut running = Running::settle(Kind::Koine, process, address("kafka"), began)?;
    running.data = data.to_owned();
    running.addresses =
        ["kafka", "amqp", "mqtt", "http"].map(|name| (name.to_owned(), address(name))).to_vec();
    Ok(running)
}

/// Kafka's tools pull in Connect's web server, which none of them uses.
const NOT_NEEDED: &str =
    "<exclusion><groupId>org.eclipse.jetty.ee10</groupId><artifactId>*</artifactId></exclusion>";

/// The jars of these coordinates and of all that they need, fetched once.
pub fn maven(name: &str, coordinates: &[&str]) -> Result<PathBuf, String> {
    let home = directory().join("maven").join(name);
    let jars = home.join("jars");
    if home.join("complete").exists() {
        return Ok(jars);
    }
    std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    let dependencies: String =
        coordinates
            .iter()
            .filter_map(|coordinate| {
                let mut parts = coordinate.split(':');
                Some(format!(
                "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>\
                 <exclusions>{NOT_NEEDED}</exclusions></dependency>",
                parts.next()?, parts.next()?, parts.next()?
            ))
            })
            .collect();
    let project = format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>koine</groupId><artifactId>{name}</artifactId>\
         <version>1</version><dependencies>{dependencies}</dependencies></project>"
    );
    write(&home.join("pom.xml"), &project)?;
    let mut fetch = Command::new("mvn");
    fetch.args(["-q", "-B", "dependency:copy-dependencies"]);
    fetch.arg(format!("-DoutputDirectory={}", jars.display())).current_dir(&home);
    let finished = process::run(&mut fetch, &home.join("maven.log"), None)
        .map_err(|error| format!("{error} (apt-get install maven openjdk-17-jdk-headless)"))?;
    if !finished.success {
        return Err(finished.tail(20));
    }
    write(&home.join("complete"), "")?;
    Ok(jars)
}

pub fn kafka_tools() -> Result<PathBuf, String> {
    maven("kafka-tools", &[KAFKA_TOOLS, LOG4J])
}

fn kafka(home: &Path, data: &Path) -> Result<Running, String> {
    let jars = maven("kafka", &[KAFKA, LOG4J])?;
    let class_path = format!("{}/*", jars.display());
    let (port, controller) = (free_port()?, free_port()?);
    let properties = home.join("server.properties");
    let settings = [
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("controller.quorum.bootstrap.servers=127.0.0.1:{controller}"),
        format!("log.dirs={}", data.display()),
        "offsets.topic.replication.factor=1".to_owned(),
        "transaction.state.log.replication.factor=1".to_owned(),
        "transaction.state.log.min.isr=1".to_owned(),
        "group.initial.rebalance.delay.ms=0".to_owned(),
        // A deleted topic's files go soon, for the disk's sake.
        "log.segment.delete.delay.ms=1000".to_owned(),
    ];
    write(&properties, &settings.join("\n"))?;
    let mut format = Command::new("java");
    format.args(["-cp", &class_path, "kafka.tools.StorageTool", "format", "--standalone"]);
    format.args(["-t", "S29pbmVDb21wYXJlMDAwMQ", "-c"]).arg(&properties);
    let finished = process::run(&mut format, &home.join("format.log"), Some(START_LIMIT))?;
    if !finished.success {
        return Err(finished.tail(20));
    }
    let mut command = Command::new("java");
    command.args(["-Xmx1G", "-Xms1G", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
    command.args(["-Djava.awt.headless=true", "-cp", &class_path, "kafka.Kafka"]).arg(&properties);
    let began = Instant::now();
    let process = spawn(&mut command, &home.join("log.txt"))?;
    Running::settle(Kind::Kafka, process, format!("127.0.0.1:{port}"), began)
}

fn rabbitmq(home: &Path, data: &Path) -> Result<Running, String> {
    if !Path::new(RABBITMQ_SERVER).exists() {
        return Err("RabbitMQ is missing: apt-get install rabbitmq-server".to_owned());
    }
    let (port, distribution, epmd) = (free_port()?, free_port()?, free_port()?);
    write(&home.join("plugins"), "[].")?;
    write(&home.join("environment"), "")?;
    write(&home.join("rabbitmq.conf"), "log.file.level = warning\n")?;
    let mut command = Command::new(RABBITMQ_SERVER);
    command
        .env("RABBITMQ_NODENAME", "compare@localhost")
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("ERL_EPMD_PORT", epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_MNESIA_BASE", data)
        .env("RABBITMQ_LOG_BASE", home)
        .env("RABBITMQ_PID_FILE", home.join("pid"))
        .env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("plugins"))
        .env("RABBITMQ_CONF_ENV_FILE", home.join("environment"))
        .env("HOME", home); // the Erlang cookie
    let began = Instant::now();
    let process = spawn(&mut command, &home.join("log.txt"))?;
    let mut running = Running::settle(Kind::RabbitMq, process, format!("127.0.0.1:{port}"), began)?;
    running.epmd_port = Some(epmd);
    Ok(running)
}

fn mosquitto(home: &Path) -> Result<Running, String> {
    let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
    let program = program.iter().find(|path| Path::new(path).exists());
    let program = program.ok_or("mosquitto is missing: apt-get install mosquitto")?;
    let port = free_port()?;
    // The defaults of 20 in flight and 1,000 queued would be measured instead of the broker.
    let settings = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n\
         max_inflight_messages 1000\nmax_queued_messages 100000\nset_tcp_nodelay true\n"
    );
    let file = home.join("mosquitto.conf");
    write(&file, &settings)?;
    let began = Instant::now();
    let process = spawn(Command::new(program).arg("-c").arg(&file), &home.join("log.txt"))?;
    Running::settle(Kind::Mosquitto, process, format!("127.0.0.1:{port}"), began)
}
