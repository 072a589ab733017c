//! `cargo xtask tidy`: the rules of the project that no compiler checks. Every rule says what is wrong, where, and
//! what to do; all rules run before the first failure is reported.

mod calls;
mod docs;
mod edges;
mod forgotten;
mod sizes;
mod source;

use source::Source;

/// One thing that is not tidy: where, and what to do about it.
pub type Problem = String;

pub fn run(arguments: &[String]) -> Result<(), String> {
    match arguments {
        [] => check(),
        [flag] if flag == "--ratchet" => sizes::write_ratchet(&sources()),
        _ => Err("usage: cargo xtask tidy [--ratchet]".to_owned()),
    }
}

/// All rules; the problems, one a line.
pub fn check() -> Result<(), String> {
    let sources = sources();
    let mut problems = Vec::new();
    problems.extend(edges::check()?);
    problems.extend(sizes::check(&sources));
    problems.extend(calls::check(&sources));
    problems.extend(forgotten::check(&sources));
    problems.extend(docs::check(&sources));
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort();
    Err(format!("{}\n{} untidy", problems.join("\n"), problems.len()))
}

/// Every Rust file of the workspace's crates.
fn sources() -> Vec<Source> {
    let paths = crate::project::files("crates", ".rs");
    let mut sources: Vec<Source> = paths.into_iter().map(Source::read).collect();
    source::mark_test_modules(&mut sources);
    sources
}
