//! The file that tells a script "every listener accepts, and this is where". It appears complete or
//! not at all.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// `listeners` in the order of the configuration; a listener that is off is absent.
pub fn write(
    path: &Path,
    startup_ms: u64,
    listeners: &[(&'static str, SocketAddr)],
) -> io::Result<()> {
    let addresses: serde_json::Map<String, serde_json::Value> = listeners
        .iter()
        .map(|(key, address)| ((*key).to_owned(), address.to_string().into()))
        .collect();
    let body = serde_json::json!({
        "pid": std::process::id(),
        "startup_ms": startup_ms,
        "listeners": addresses,
    });
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    std::fs::write(&unfinished, format!("{body}\n"))?;
    std::fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn holds_pid_time_and_addresses() {
        let directory = TestDirectory::new("ready");
        let path = directory.path().join("ready.json");
        write(&path, 12, &[("kafka", "127.0.0.1:9092".parse().unwrap())]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let pid = std::process::id();
        assert_eq!(
            text,
            format!("{{\"pid\":{pid},\"startup_ms\":12,\"listeners\":{{\"kafka\":\"127.0.0.1:9092\"}}}}\n")
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
