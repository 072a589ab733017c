//! Official clients log in by each mechanism, plain, over TLS and with a certificate; get their library's error
//! for a wrong password; and lose what they had as soon as it is taken away.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::access::{add_user_as, delete_user_as};
use crate::broker::{koine, Addresses, Broker, Directory};
use crate::clients::{go_program, java_program, node_program, python_program};
use crate::programs::{self, PROGRAM_LIMIT};

const PASSWORD: &str = "canary-alice-77aa";
/// From the end of the command that takes the user away.
const LOSS_MAX: Duration = Duration::from_secs(1);

/// A library and the program that uses it.
struct Client {
    library: &'static str,
    program: fn() -> Option<Command>,
    listener: fn(&Addresses) -> &str,
    /// Those that take a password. Each client knows certificates, too.
    mechanisms: &'static [&'static str],
}

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

    fn program(&self, client: &Client, mode: &str, options: &[String]) -> Option<Command> {
        let mut command = (client.program)()?;
        let address = (client.listener)(&self.broker.addresses);
        command.args([client.library, mode, address]).args(options).stdin(Stdio::null());
        Some(command)
    }

    /// True unless the client is not installed.
    fn run(&self, client: &Client, mode: &str, options: &[String]) -> bool {
        let Some(mut command) = self.program(client, mode, options) else { return false };
        let finished = programs::run(&self.broker, &mut command, PROGRAM_LIMIT);
        let (library, said) = (client.library, finished.text());
        let is_ok = finished.success && said.contains(&format!("ok {library} {mode}"));
        assert!(is_ok, "{library} {mode} {options:?}: {said}{}", finished.stderr);
        true
    }
}

fn password(password: &str) -> Vec<String> {
    vec!["user=alice".to_owned(), format!("password={password}")]
}

fn check(test: &str, client: &Client) {
    let site = Site::new(test);
    let tls = vec![format!("ca={}", site.file("ca.pem"))];
    let certificate = vec![
        format!("cert={}", site.file("client-alice.pem")),
        format!("key={}", site.file("client-alice.key")),
    ];
    for mechanism in client.mechanisms {
        let named = vec![format!("mechanism={mechanism}")];
        let right = [password(PASSWORD), named.clone()].concat();
        let wrong = [password("wrong"), named].concat();
        if !site.run(client, "login", &right) {
            return;
        }
        site.run(client, "login", &[right, tls.clone()].concat());
        site.run(client, "refused", &wrong);
        site.run(client, "refused", &[wrong, tls.clone()].concat());
    }
    let external = vec!["mechanism=EXTERNAL".to_owned()];
    site.run(client, "login", &[external, tls, certificate].concat());
    loses_access(&site, client);
}

fn loses_access(site: &Site, client: &Client) {
    let Some(mut command) = site.program(client, "revoked", &password(PASSWORD)) else { return };
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    expect_line(&mut lines, "ready");
    site.delete_alice();
    let deleted = Instant::now();
    expect_line(&mut lines, "lost");
    let took = deleted.elapsed();
    println!("{}: lost {} ms after the command", client.library, took.as_millis());
    assert!(took < LOSS_MAX, "{} had access for {took:?}", client.library);
    end(process);
    site.run(client, "refused", &password(PASSWORD));
}

fn expect_line(lines: &mut std::io::Lines<BufReader<ChildStdout>>, expect: &str) {
    let line = lines.next().and_then(Result::ok);
    assert_eq!(line.as_deref(), Some(expect));
}

fn end(mut process: Child) {
    let _ = process.kill();
    let _ = process.wait();
}

const ONE: &[&str] = &["PLAIN"];
const AMQP: &[&str] = &["PLAIN", "AMQPLAIN"];
const KAFKA: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

macro_rules! secure_client_tests {
    ($($test:ident: $program:expr, $library:literal, $listener:ident, $mechanisms:ident;)*) => {
        $(
            #[test]
            fn $test() {
                let client = Client {
                    library: $library,
                    program: || $program,
                    listener: |addresses| &addresses.$listener,
                    mechanisms: $mechanisms,
                };
                check(concat!("secure-", stringify!($test)), &client);
            }
        )*
    };
}

secure_client_tests! {
    kafka_python_confluent: python_program("secure"), "confluent-kafka", kafka, KAFKA;
    kafka_java_kafka_clients: java_program("secure.Secure"), "kafka-clients", kafka, KAFKA;
    kafka_go_franz_go: go_program("secure"), "franz-go", kafka, KAFKA;
    kafka_node_kafkajs: node_program("secure"), "kafkajs", kafka, KAFKA;
    amqp_python_pika: python_program("secure"), "pika", amqp, ONE;
    amqp_java_amqp_client: java_program("secure.Secure"), "amqp-client", amqp, ONE;
    amqp_go_amqp091_go: go_program("secure"), "amqp091-go", amqp, AMQP;
    amqp_node_amqplib: node_program("secure"), "amqplib", amqp, AMQP;
    mqtt_python_paho: python_program("secure"), "paho-mqtt", mqtt, ONE;
    mqtt_node_mqtt_js: node_program("secure"), "mqtt", mqtt, ONE;
}
