//! Files stay below 1,000 lines that are no tests, functions below 71. What is larger is listed in
//! `crates/xtask/ratchet.txt` with its size and may only shrink.

use std::collections::BTreeMap;

use super::source::Source;
use super::Problem;
use crate::project;

const FILE_LINES_MAX: usize = 1_000;
const FUNCTION_LINES_MAX: usize = 70;
const RATCHET: &str = "crates/xtask/ratchet.txt";
const HEADER: &str = "\
# Files above 1,000 and functions above 70 lines, with the size they may not exceed. Lines may be lowered or removed,
# never raised or added: split instead. `cargo xtask tidy --ratchet` lowers them.
";

/// What is too large, under the name it is listed by.
fn too_large(sources: &[Source]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_generated()) {
        let lines = source.shipped_lines().count();
        if lines > FILE_LINES_MAX {
            found.insert(source.path.clone(), lines);
        }
        for function in source.functions() {
            if function.line_count > FUNCTION_LINES_MAX {
                let entry = found.entry(format!("{}::{}", source.path, function.name)).or_default();
                *entry = (*entry).max(function.line_count);
            }
        }
    }
    found
}

fn listed() -> BTreeMap<String, usize> {
    let text = project::read(RATCHET);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, size)| Some((name.to_owned(), size.parse().ok()?)))
        .collect()
}

pub fn check(sources: &[Source]) -> Vec<Problem> {
    compare(&too_large(sources), &listed())
}

fn compare(found: &BTreeMap<String, usize>, listed: &BTreeMap<String, usize>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, size) in found {
        let max = if name.contains("::") { FUNCTION_LINES_MAX } else { FILE_LINES_MAX };
        match listed.get(name) {
            None => problems.push(format!("{name}: {size} lines, {max} at most; split it")),
            Some(allowed) if size > allowed => {
                problems.push(format!("{name}: grew from {allowed} to {size} lines; split it"));
            }
            Some(allowed) if size < allowed => {
                problems.push(format!(
                    "{name}: shrank to {size} lines; run `cargo xtask tidy --ratchet`"
                ));
            }
            Some(_) => {}
        }
    }
    let gone = listed.keys().filter(|name| !found.contains_key(*name));
    problems.extend(gone.map(|name| {
        format!("{name}: listed in {RATCHET} but small; run `cargo xtask tidy --ratchet`")
    }));
    problems
}

/// Writes the list anew: entries shrink and go, and with a first list all that is too large is entered.
pub fn write_ratchet(sources: &[Source]) -> Result<(), String> {
    let (found, listed) = (too_large(sources), listed());
    let mut text = HEADER.to_owned();
    for (name, size) in &found {
        match listed.get(name) {
            Some(allowed) => text += &format!("{name} {}\n", allowed.min(size)),
            None if listed.is_empty() => text += &format!("{name} {size}\n"),
            None => {}
        }
    }
    std::fs::write(project::root().join(RATCHET), text)
        .map_err(|error| format!("{RATCHET}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, usize)]) -> BTreeMap<String, usize> {
        entries.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
    }

    #[test]
    fn only_shrinks() {
        let listed = map(&[("a.rs", 1_200), ("b.rs::f", 90), ("gone.rs", 2_000)]);
        assert_eq!(
            compare(&map(&[("a.rs", 1_200), ("b.rs::f", 90), ("gone.rs", 2_000)]), &listed),
            [""; 0]
        );
        let found = compare(&map(&[("a.rs", 1_201), ("b.rs::f", 80), ("c.rs::g", 71)]), &listed);
        assert_eq!(found.len(), 4);
        assert!(found[0].contains("grew") && found[1].contains("shrank"), "{found:?}");
        assert!(found[2].contains("split") && found[3].contains("but small"), "{found:?}");
    }

    #[test]
    fn long_functions_are_found() {
        let text = format!("fn long() {{\n{}}}\n", "    x;\n".repeat(70));
        let sources = [Source::new("crates/log/src/lib.rs".to_owned(), text)];
        assert_eq!(too_large(&sources), map(&[("crates/log/src/lib.rs::long", 72)]));
    }
}
