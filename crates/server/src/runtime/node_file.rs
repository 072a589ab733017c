//! What a data directory is from its first day on: how many shards its groups are laid out for, and the
//! cluster's id. A small JSON file, written once.

use koine_base::checksum::crc32c;
use serde_json::{json, Value};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const FILE: &str = "node.json";
const FORMAT: u64 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub shard_count: u16,
    /// 22 characters, as Kafka clients expect.
    pub cluster_id: String,
}

#[derive(Debug)]
pub enum NodeFileError {
    Io { path: PathBuf, error: io::Error },
    Damaged { path: PathBuf },
    UnknownFormat { path: PathBuf, format: u64 },
}

impl fmt::Display for NodeFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeFileError::Io { path, error } => write!(f, "{}: {error}", path.display()),
            NodeFileError::Damaged { path } => write!(f, "{} is damaged", path.display()),
            NodeFileError::UnknownFormat { path, format } => {
                write!(
                    f,
                    "{} has format {format}, which this release does not know",
                    path.display()
                )
            }
        }
    }
}

/// Reads the file, or makes it for `shard_count` shards if the directory is new.
pub fn open(directory: &Path, shard_count: u16) -> Result<Node, NodeFileError> {
    let path = directory.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => read(&path, &bytes),
        // Data without it: it was lost, and a new one could have another number of shards.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && directory.join("shard-0").exists() =>
        {
            Err(NodeFileError::Damaged { path })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let node = Node { shard_count, cluster_id: random_id() };
            write(directory, &path, &node).map_err(|error| NodeFileError::Io { path, error })?;
            Ok(node)
        }
        Err(error) => Err(NodeFileError::Io { path, error }),
    }
}

/// Reads the file of a directory that is there.
pub fn look(directory: &Path) -> Result<Node, NodeFileError> {
    let path = directory.join(FILE);
    let bytes =
        std::fs::read(&path).map_err(|error| NodeFileError::Io { path: path.clone(), error })?;
    read(&path, &bytes)
}

fn read(path: &Path, bytes: &[u8]) -> Result<Node, NodeFileError> {
    let damaged = || NodeFileError::Damaged { path: path.to_owned() };
    let value: Value = serde_json::from_slice(bytes).map_err(|_| damaged())?;
    match value["format"].as_u64() {
        Some(FORMAT) => {}
        Some(format) => return Err(NodeFileError::UnknownFormat { path: path.to_owned(), format }),
        None => return Err(damaged()),
    }
    let shard_count = value["shards"].as_u64().and_then(|count| u16::try_from(count).ok());
    let shard_count = shard_count.filter(|count| *count > 0).ok_or_else(damaged)?;
    let cluster_id = value["cluster_id"].as_str().ok_or_else(damaged)?.to_owned();
    let node = Node { shard_count, cluster_id };
    if value["crc32c"].as_u64() != Some(u64::from(checksum(&node))) {
        return Err(damaged());
    }
    Ok(node)
}

/// Another number of shards would look for the groups in the wrong places.
fn checksum(node: &Node) -> u32 {
    crc32c(format!("{FORMAT} {} {}", node.shard_count, node.cluster_id).as_bytes())
}

fn write(directory: &Path, path: &Path, node: &Node) -> io::Result<()> {
    let unfinished = path.with_extension("json.tmp");
    let mut file = File::create(&unfinished)?;
    let body = json!({
        "format": FORMAT,
        "shards": node.shard_count,
        "cluster_id": node.cluster_id,
        "crc32c": checksum(node),
    });
    writeln!(file, "{body}")?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    File::open(directory)?.sync_all()
}

/// A number nobody chose. From the keys that the standard library draws from the system for its hash
/// maps; for ids, not for secrets.
pub fn random_number() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn random_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from(random_number()) << 64 | u128::from(random_number());
    (0..22).map(|digit| ALPHABET[(bits >> (6 * digit) & 63) as usize] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn first_start_decides() {
        let directory = TestDirectory::new("node");
        let first = open(directory.path(), 3).unwrap();
        assert_eq!((first.shard_count, first.cluster_id.len()), (3, 22));
        assert_eq!(open(directory.path(), 8).unwrap(), first);
    }

    #[test]
    fn damage_is_refused() {
        let path = Path::new("node.json");
        let check = |text: &str, expect: &str| {
            assert_eq!(read(path, text.as_bytes()).unwrap_err().to_string(), expect, "{text}");
        };
        check("", "node.json is damaged");
        check("{\"format\":2,\"shards\":0,\"cluster_id\":\"x\"}", "node.json is damaged");
        check("{\"format\":2,\"shards\":70000,\"cluster_id\":\"x\"}", "node.json is damaged");
        check("{\"format\":2,\"shards\":2,\"cluster_id\":\"x\"}", "node.json is damaged");
        check("{\"format\":3}", "node.json has format 3, which this release does not know");
    }

    #[test]
    fn no_flipped_bit_changes_the_node() {
        let directory = TestDirectory::new("node");
        let node = open(directory.path(), 3).unwrap();
        let path = directory.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&path, &bad).map_or(true, |read| read == node), "bit {bit}");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(directory.path().join("shard-0")).unwrap();
        assert!(matches!(open(directory.path(), 8), Err(NodeFileError::Damaged { .. })));
        assert!(!path.exists());
    }
}
