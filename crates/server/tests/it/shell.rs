//! The command line clients that Debian packages: kcat, mosquitto_pub and mosquitto_sub.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::broker::Broker;
use crate::programs::{installed, run, Finished};
use crate::wait;

const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// A program and the arguments that every call begins with.
struct Tool<'a> {
    broker: &'a Broker,
    program: PathBuf,
    first: String,
}

impl Tool<'_> {
    /// Arguments are separated by spaces; `~` is a space inside one.
    fn arguments(&self, line: &str) -> Vec<String> {
        let words = self.first.split(' ').chain(line.split(' '));
        words.map(|word| word.replace('~', " ")).collect()
    }

    fn finish(&self, line: &str) -> Finished {
        let mut command = Command::new(&self.program);
        run(self.broker, command.args(self.arguments(line)), COMMAND_LIMIT)
    }

    /// The lines it prints; it must succeed.
    fn lines(&self, line: &str) -> Vec<String> {
        let finished = self.finish(line);
        let said = finished.text();
        assert!(finished.success, "{line}: {said}{}", finished.stderr);
        said.lines().map(str::to_owned).collect()
    }

    /// What it says when it fails, as it must.
    fn failure(&self, line: &str) -> String {
        let finished = self.finish(line);
        let said = format!("{}{}", finished.text(), finished.stderr);
        assert!(!finished.success, "{line} succeeded: {said}");
        said
    }
}

#[test]
fn kafka_kcat() {
    let Some(program) = installed("kcat") else {
        return;
    };
    let broker = Broker::start("kcat");
    let first = format!("-b {}", broker.addresses.kafka);
    let kcat = Tool { broker: &broker, program, first };
    kcat_checks(&kcat, &format!("kcat-{}", std::process::id()));
}

fn kcat_checks(kcat: &Tool<'_>, name: &str) {
    let lines: Vec<String> = (0..50).map(|i| format!("k{i}:value {i}")).collect();
    let file = kcat.broker.directory.path().join("kcat.txt");
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let file = file.display();
    // Each topic is created by its first use.
    for codec in ["none", "gzip", "snappy", "lz4"] {
        let topic = format!("{name}-{codec}");
        kcat.lines(&format!("-P -t {topic} -K : -z {codec} -H h=1 -H h=2 -l {file}"));
        let read = kcat.lines(&format!("-C -t {topic} -p 0 -e -q -f %o~%k:%s~%h\\n"));
        let numbered = lines.iter().enumerate();
        let want: Vec<String> = numbered.map(|(i, line)| format!("{i} {line} h=1,h=2")).collect();
        assert_eq!(read, want, "{codec}");
    }
    let topic = format!("{name}-none");
    let listed = kcat.lines(&format!("-L -t {topic}")).join("\n");
    assert!(listed.contains(&format!("topic \"{topic}\" with")), "{listed}");
    let end = kcat.lines(&format!("-Q -t {topic}:0:-1")).join("\n");
    assert!(end.contains("offset 50"), "{end}");
    let tail = kcat.lines(&format!("-C -t {topic} -p 0 -o -3 -e -q"));
    assert_eq!(tail, ["value 47", "value 48", "value 49"]);
    let group = format!("-X auto.offset.reset=earliest -e -q -G {topic}-group {topic}");
    assert_eq!(kcat.lines(&group).len(), 50);
    assert_eq!(kcat.lines(&group).len(), 0, "the group had committed it");
    let said = kcat.failure(&format!("-C -t {topic} -p 77 -e -q"));
    assert!(said.contains("does not exist"), "{said}");
    let said = kcat.failure(&format!("-P -t not/a/topic -l {file} -X message.timeout.ms=5000"));
    assert!(said.contains("nvalid topic"), "{said}");
}

/// A subscriber that runs until it has its messages.
struct Subscriber(Child, PathBuf);

impl Subscriber {
    /// Starts it and returns once the broker has granted the subscription.
    fn start(tool: &Tool<'_>, line: &str) -> Subscriber {
        let out = tool.broker.directory.path().join("subscriber.out");
        let file = std::fs::File::create(&out).unwrap();
        let mut command = Command::new("stdbuf"); // else its lines stay in a buffer until it ends
        command.arg("-oL").arg(&tool.program).args(tool.arguments(line));
        command.arg("-d").stdin(Stdio::null()).stdout(file).stderr(Stdio::null());
        let this = Subscriber(command.spawn().unwrap(), out);
        wait::until("SUBACK", COMMAND_LIMIT, || this.text().contains("SUBACK").then_some(()));
        this
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.1).unwrap_or_default()
    }

    /// The messages it printed, without its debug lines.
    fn finish(mut self) -> Vec<String> {
        wait::until("all messages", COMMAND_LIMIT, || self.0.try_wait().unwrap());
        let is_debug = |line: &&str| line.starts_with("Client ") || line.starts_with("Subscribed ");
        let text = self.text();
        let messages = text.lines().filter(|line| !is_debug(line));
        messages.map(str::to_owned).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn mqtt_mosquitto() {
    let (Some(publish), Some(subscribe)) = (installed("mosquitto_pub"), installed("mosquitto_sub"))
    else {
        return;
    };
    let broker = Broker::start("mosquitto");
    let address = broker.addresses.mqtt.clone();
    mosquitto_checks(&broker, [publish, subscribe], &address);
}

fn mosquitto_checks(broker: &Broker, programs: [PathBuf; 2], address: &str) {
    let (host, port) = address.rsplit_once(':').unwrap();
    let [publish, subscribe] =
        programs.map(|program| Tool { broker, program, first: format!("-h {host} -p {port}") });
    for version in ["311", "5"] {
        for qos in 0..3 {
            let line = format!("-t mosquitto/+ -C 3 -V {version} -q {qos}");
            let subscriber = Subscriber::start(&subscribe, &line);
            for body in ["one", "two", "τρία"] {
                publish.lines(&format!("-t mosquitto/x -m {body} -V {version} -q {qos}"));
            }
            assert_eq!(subscriber.finish(), ["one", "two", "τρία"], "{version}, QoS {qos}");
        }
    }
    retained_and_session(&publish, &subscribe);
    let alias = "-V 5 -t x -m x -q 1 -D publish topic-alias 65535";
    assert!(!publish.failure(alias).is_empty());
}

fn retained_and_session(publish: &Tool<'_>, subscribe: &Tool<'_>) {
    publish.lines("-t state/lamp -m on -r -q 1");
    let retained = subscribe.lines("-t state/# -C 1 -F %r~%t~%p");
    assert_eq!(retained, ["1 state/lamp on"]);
    publish.lines("-t state/lamp -n -r -q 1");

    let lasting = "-t session/x -q 1 -c -i lasting -V 311";
    subscribe.lines(&format!("{lasting} -E"));
    publish.lines("-t session/x -m while~away -q 1");
    assert_eq!(subscribe.lines(&format!("{lasting} -C 1")), ["while away"]);

    let subscriber = Subscriber::start(subscribe, "-V 5 -t props -C 1 -F %P~%C~%p");
    publish.lines(
        "-V 5 -t props -m x -D publish user-property k v -D publish content-type text/plain",
    );
    assert_eq!(subscriber.finish(), ["k:v text/plain x"]);
}
