//! No forgotten files and no tests that do not run: every Rust file is declared as a module, nothing is marked
//! `#[ignore]`, and no test waits for time to pass.

use std::collections::HashMap;

use super::source::{find_word, Source};
use super::Problem;

pub fn check(sources: &[Source]) -> Vec<Problem> {
    let by_path: HashMap<&str, &Source> =
        sources.iter().map(|source| (source.path.as_str(), source)).collect();
    let mut problems: Vec<Problem> =
        sources.iter().filter_map(|source| undeclared(source, &by_path)).collect();
    problems.extend(sources.iter().flat_map(bad_tests));
    problems
}

/// A file that no parent module names is never compiled, and its tests never run.
fn undeclared(source: &Source, by_path: &HashMap<&str, &Source>) -> Option<Problem> {
    let (name, parents) = source.declaration()?;
    let parents = parents.iter().filter(|parent| **parent != source.path);
    let mut parents = parents.filter_map(|parent| by_path.get(parent.as_str()));
    let declared = parents.any(|parent| parent.line_declaring(&name).is_some());
    (!declared).then(|| format!("{}: no module declares it; it is never compiled", source.path))
}

fn bad_tests(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, line) in source.code.lines().enumerate() {
        let number = at + 1;
        if line.contains("#[ignore") {
            problems
                .push(format!("{}:{number}: #[ignore]: fix the test or remove it", source.path));
        }
        if source.is_test[at] && find_word(line, "thread::sleep", 0).is_some() {
            problems
                .push(format!("{}:{number}: a test sleeps: wait for the condition", source.path));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> Vec<Problem> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source::new((*path).to_owned(), (*text).to_owned()))
            .collect();
        super::check(&sources)
    }

    #[test]
    fn every_file_is_declared() {
        let whole = [
            ("crates/x/src/lib.rs", "mod a;\npub mod b;"),
            ("crates/x/src/a.rs", "mod tests;"),
            ("crates/x/src/a/tests.rs", ""),
            ("crates/x/src/b/mod.rs", "mod c;"),
            ("crates/x/src/b/c.rs", ""),
            ("crates/x/tests/it/main.rs", "mod d;"),
            ("crates/x/tests/it/d.rs", ""),
        ];
        assert_eq!(check(&whole), [""; 0]);
        let found = check(&[("crates/x/src/lib.rs", "// mod a;"), ("crates/x/src/a.rs", "")]);
        assert_eq!(found, ["crates/x/src/a.rs: no module declares it; it is never compiled"]);
    }

    #[test]
    fn ignored_and_sleeping_tests_are_found() {
        let text = "#[cfg(test)]\nmod tests {\n #[ignore]\n fn f() { std::thread::sleep(x); }\n}\n";
        assert_eq!(check(&[("crates/x/src/lib.rs", text)]).len(), 2);
        assert_eq!(check(&[("crates/x/src/lib.rs", "fn f() { std::thread::sleep(x); }")]).len(), 0);
    }
}
