//! A directory that lives as long as its test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub struct TestDirectory(PathBuf);

static SEQUENCE: AtomicU64 = AtomicU64::new(0);

impl TestDirectory {
    pub fn new(label: &str) -> Self {
        let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let name = format!("koine-test-{label}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        TestDirectory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
