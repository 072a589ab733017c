//! Turns `crates/kafka/schema/*.txt` into `crates/kafka/src/codec/generated/*.rs`.
//!
//! The output is committed: a build never runs this, and a test holds the two against each other.
//! It must never read anything but the schema files, so that the same input gives the same bytes.

mod emit;
mod schema;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SCHEMA_DIRECTORY: &str = "crates/kafka/schema";
const OUTPUT_DIRECTORY: &str = "crates/kafka/src/codec/generated";

/// Writes the codec, or with `check_only` says whether what is committed differs from it.
pub fn run(check_only: bool) -> Result<(), String> {
    let root = workspace_root()?;
    let mut apis = Vec::new();
    for path in files_in(&root.join(SCHEMA_DIRECTORY), "txt")? {
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let module = stem(&path);
        apis.push(schema::parse(&module, &text).map_err(|e| format!("{}: {e}", path.display()))?);
    }
    apis.sort_by_key(|api| api.key);

    let output = root.join(OUTPUT_DIRECTORY);
    let mut files = vec![("mod.rs".to_string(), emit::index(&apis))];
    for api in apis.iter().filter(|api| !api.handwritten) {
        files.push((format!("{}.rs", api.module), emit::message(api)));
    }
    let mut stale = Vec::new();
    for (name, text) in &files {
        let path = output.join(name);
        let text = format_source(text, &root).map_err(|e| format!("{name}: {e}"))?;
        if fs::read_to_string(&path).ok().as_deref() == Some(&text) {
            continue;
        }
        stale.push(name.clone());
        if !check_only {
            fs::create_dir_all(&output).map_err(|e| e.to_string())?;
            fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    for path in files_in(&output, "rs")? {
        let name = format!("{}.rs", stem(&path));
        if !files.iter().any(|(known, _)| *known == name) {
            if !check_only {
                fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            }
            stale.push(name);
        }
    }
    if check_only && !stale.is_empty() {
        return Err(format!(
            "{OUTPUT_DIRECTORY} is not what {SCHEMA_DIRECTORY} gives: {}",
            stale.join(", ")
        ));
    }
    Ok(())
}

/// The nearest directory above the current one that holds the schema files.
fn workspace_root() -> Result<PathBuf, String> {
    let start = std::env::current_dir().map_err(|e| e.to_string())?;
    start
        .ancestors()
        .find(|directory| directory.join(SCHEMA_DIRECTORY).is_dir())
        .map(Path::to_path_buf)
        .ok_or_else(|| format!("no {SCHEMA_DIRECTORY} above {}", start.display()))
}

fn files_in(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(files);
    };
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs `rustfmt` with the workspace's settings, so that the committed files pass the format check
/// like any other.
fn format_source(text: &str, root: &Path) -> Result<String, String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2021", "--emit", "stdout"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("rustfmt does not start: {e}"))?;
    let mut stdin = child.stdin.take().ok_or("rustfmt has no input")?;
    let text = text.to_string();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    match writer.join() {
        Ok(Ok(())) if output.status.success() => {}
        _ => return Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
    String::from_utf8(output.stdout).map_err(|e| e.to_string())
}
