//! Where things are, and the files that belong to the project.

use std::path::{Path, PathBuf};

/// The workspace's root, made absolute when this program was built.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
}

/// The build directory: `CARGO_TARGET_DIR` or `target`.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) => root().join(path),
        None => root().join("target"),
    }
}

/// Directories that hold nothing of ours.
const SKIPPED: [&str; 6] = ["target", "node_modules", ".git", "__pycache__", "koine-data", "venv"];

/// All files below `directory` with this ending, by path from the root, sorted.
pub fn files(directory: &str, ending: &str) -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.join(directory)];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() {
                if !SKIPPED.contains(&name.as_ref()) {
                    open.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(relative(&path));
            }
        }
    }
    found.sort();
    found
}

/// A path from the root, with `/` between its parts.
pub fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// The text of a file given by its path from the root; empty if it cannot be read.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}
