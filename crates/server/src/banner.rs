//! What a person sees first: which protocol listens where, and a line to paste for each.

use crate::terminal::Style;
use std::fmt::Write;
use std::net::SocketAddr;

pub struct Banner<'a> {
    pub data: &'a std::path::Path,
    pub durability: &'a str,
    pub startup_ms: u64,
    pub listeners: &'a [(&'static str, SocketAddr)],
}

impl Banner<'_> {
    pub fn render(&self, style: Style) -> String {
        let mut text = String::new();
        let title = format!("Koine {}", env!("CARGO_PKG_VERSION"));
        let _ = writeln!(
            text,
            "{} ready in {} ms, data in {}, acknowledged when {}",
            style.bold(&title),
            self.startup_ms,
            self.data.display(),
            self.durability
        );
        for (key, address) in self.listeners {
            let _ = writeln!(text, "\n  {:<6} {address}", style.bold(&key.to_uppercase()));
            for line in paste_lines(key, address) {
                let _ = writeln!(text, "    {}", style.dim(&line));
            }
        }
        let _ = writeln!(text, "\nStop with Ctrl-C.");
        text
    }
}

/// Lines that work as they are, with the programs of Debian's kcat, amqp-tools, mosquitto-clients and
/// curl. All of them use one name, so that pasting two from different protocols shows the translation.
fn paste_lines(key: &str, address: &SocketAddr) -> Vec<String> {
    let (host, port) = (address.ip(), address.port());
    match key {
        "kafka" => vec![
            format!("kcat -b {address} -t demo.hello -C"),
            format!("echo hello | kcat -b {address} -t demo.hello -P"),
        ],
        "amqp" => vec![
            format!(
                "amqp-consume -s {host} --port {port} -e amq.topic -r demo.hello -q hello -d cat"
            ),
            format!("amqp-publish -s {host} --port {port} -e amq.topic -r demo.hello -b hello"),
        ],
        "mqtt" => vec![
            format!("mosquitto_sub -h {host} -p {port} -t 'demo/#' -v"),
            format!("mosquitto_pub -h {host} -p {port} -t demo/hello -m hello"),
        ],
        "http" => vec![
            format!("curl http://{address}/health/ready"),
            format!("curl http://{address}/metrics"),
        ],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listener_has_its_lines() {
        let listeners = [
            ("kafka", "127.0.0.1:9092".parse().unwrap()),
            ("http", "127.0.0.1:15672".parse().unwrap()),
        ];
        let data = std::path::Path::new("./koine-data");
        let banner = Banner { data, durability: "fsync", startup_ms: 9, listeners: &listeners };
        let text = banner.render(Style::PLAIN);
        assert!(text.contains("ready in 9 ms, data in ./koine-data"));
        assert!(
            text.contains("  KAFKA  127.0.0.1:9092\n    kcat -b 127.0.0.1:9092 -t demo.hello -C\n")
        );
        assert!(text.contains("curl http://127.0.0.1:15672/metrics"));
        assert!(!text.contains('\u{1b}'));
    }
}
