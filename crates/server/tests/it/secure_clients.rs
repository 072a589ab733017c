//! Official clients log in by each mechanism, plain, over TLS and with a certificate; get their library's error
//! for a wrong password; and lose what they had as soon as it is taken away.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::access::{add_user_as, delete_user_as};
use crate::broker::{koine, Broker, Directory};
use crate::clients::python;
use crate::programs::sources;

const PASSWORD: &str = "canary-alice-77aa";
/// From the end of the command that takes the user away.
const LOSS_MAX: Duration = Duration::from_secs(1);

/// A broker with an administrator, certificates, and a user of everything.
struct Site {
    broker: Broker,
    admin: String,
}

impl Site {
    fn new(test: &str) -> Site {
        let directory = Directory::new(test);
        let mut command = koine();
        command.args(["init", "--data", "data", "--client", "alice", "--json"]);
        let output = command.current_dir(directory.path()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let admin = made["password"].as_str().unwrap().to_owned();
        let broker =
            Broker::start_in(directory, &["--config", "koine.toml", "--log-level", "trace"]);
        let site = Site { broker, admin };
        site.add_alice();
        site
    }

    fn add_alice(&self) {
        add_user_as(&self.broker, ("admin", &self.admin), "alice", PASSWORD, [".*"; 3]);
    }

    fn delete_alice(&self) {
        delete_user_as(&self.broker, ("admin", &self.admin), "alice");
    }

    fn file(&self, name: &str) -> String {
        self.broker.directory.path().join("data/tls").join(name).display().to_string()
    }

    fn address(&self, library: &str) -> &str {
        let addresses = &self.broker.addresses;
        match library {
            "confluent-kafka" => &addresses.kafka,
            "pika" => &addresses.amqp,
            _ => &addresses.mqtt,
        }
    }

    fn program(&self, library: &str, mode: &str, options: &[String]) -> Option<Command> {
        let mut command = Command::new(python()?);
        command.arg(sources().join("python/secure/main.py"));
        command.args([library, mode, self.address(library)]).args(options).stdin(Stdio::null());
        Some(command)
    }

    /// True unless the client is not installed.
    fn run(&self, library: &str, mode: &str, options: &[String]) -> bool {
        let Some(mut command) = self.program(library, mode, options) else { return false };
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        let is_ok = output.status.success() && said.contains(&format!("ok {library} {mode}"));
        assert!(is_ok, "{library} {mode} {options:?}: {said}{complaint}");
        true
    }
}

fn password(password: &str) -> Vec<String> {
    vec!["user=alice".to_owned(), format!("password={password}")]
}

fn check(test: &str, library: &str, mechanisms: &[&str]) {
    let site = Site::new(test);
    let tls = vec![format!("ca={}", site.file("ca.pem"))];
    let certificate = vec![
        format!("cert={}", site.file("client-alice.pem")),
        format!("key={}", site.file("client-alice.key")),
    ];
    for mechanism in mechanisms {
        let named = vec![format!("mechanism={mechanism}")];
        let right = [password(PASSWORD), named.clone()].concat();
        let wrong = [password("wrong"), named].concat();
        if !site.run(library, "login", &right) {
            return;
        }
        site.run(library, "login", &[right, tls.clone()].concat());
        site.run(library, "refused", &wrong);
        site.run(library, "refused", &[wrong, tls.clone()].concat());
    }
    let external = vec!["mechanism=EXTERNAL".to_owned()];
    site.run(library, "login", &[external, tls, certificate].concat());
    loses_access(&site, library);
}

fn loses_access(site: &Site, library: &str) {
    let Some(mut command) = site.program(library, "revoked", &password(PASSWORD)) else { return };
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    expect_line(&mut lines, "ready");
    site.delete_alice();
    let deleted = Instant::now();
    expect_line(&mut lines, "lost");
    let took = deleted.elapsed();
    println!("{library}: lost {} ms after the command", took.as_millis());
    assert!(took < LOSS_MAX, "{library} had access for {took:?}");
    end(process);
    site.run(library, "refused", &password(PASSWORD));
}

fn expect_line(lines: &mut std::io::Lines<BufReader<ChildStdout>>, expect: &str) {
    let line = lines.next().and_then(Result::ok);
    assert_eq!(line.as_deref(), Some(expect));
}

fn end(mut process: Child) {
    let _ = process.kill();
    let _ = process.wait();
}

#[test]
fn kafka_logins() {
    let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
    check("kafka-logins", "confluent-kafka", &mechanisms);
}

#[test]
fn amqp_logins() {
    check("amqp-logins", "pika", &["PLAIN"]);
}

#[test]
fn mqtt_logins() {
    check("mqtt-logins", "paho-mqtt", &["PLAIN"]);
}
