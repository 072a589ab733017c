//! One invariant broken on purpose: a title, the world that must notice, and replacements of text. A replacement that
//! does not fit the sources any more is an error, never skipped.

use std::path::Path;

/// Kinds of worlds, as `koine-sim --world` knows them.
pub const WORLDS: &[&str] = &["node", "wired", "cluster"];

#[derive(Debug, PartialEq)]
pub struct Mutant {
    pub name: String,
    pub title: String,
    pub world: String,
    replacements: Vec<Replacement>,
}

#[derive(Debug, PartialEq)]
struct Replacement {
    /// From the root.
    file: String,
    old: String,
    new: String,
}

impl Mutant {
    /// ```text
    /// what is broken, in one line
    /// world: node
    /// file: crates/log/src/wal.rs
    /// <<<<
    /// text that is there exactly once
    /// ====
    /// text that takes its place
    /// >>>>
    /// ```
    pub fn parse(path: &str, text: &str) -> Result<Mutant, String> {
        let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".txt").to_owned();
        let mut lines = text.lines();
        let title = lines.next().unwrap_or_default().to_owned();
        let world = lines.next().and_then(|line| line.strip_prefix("world: "));
        let world = world.filter(|world| WORLDS.contains(world));
        let world = world.ok_or_else(|| format!("{path}:2: no known world"))?.to_owned();
        let mut replacements = Vec::new();
        while let Some(line) = lines.next() {
            let file = line.strip_prefix("file: ");
            let file = file.ok_or_else(|| format!("{path}: {line:?} where a file was expected"))?;
            if lines.next() != Some("<<<<") {
                return Err(format!("{path}: <<<< was expected after {file}"));
            }
            let mut until = |end: &str| {
                let mut part = Vec::new();
                loop {
                    match lines.next() {
                        Some(line) if line == end => return Ok(part.join("\n")),
                        Some(line) => part.push(line),
                        None => return Err(format!("{path}: {end} is missing")),
                    }
                }
            };
            let (old, new) = (until("====")?, until(">>>>")?);
            replacements.push(Replacement { file: file.to_owned(), old, new });
        }
        if title.is_empty() || replacements.is_empty() {
            return Err(format!("{path}: breaks nothing"));
        }
        Ok(Mutant { name, title, world, replacements })
    }

    /// Why it cannot be applied to these sources.
    pub fn problems(&self, root: &Path) -> Vec<String> {
        let check = |replacement: &Replacement| {
            let Replacement { file, old, .. } = replacement;
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            let count = text.matches(old.as_str()).count();
            (count != 1).then(|| {
                format!("{}: its text is {count} times in {file}, once was expected", self.name)
            })
        };
        self.replacements.iter().filter_map(check).collect()
    }

    /// Changes the copy below `root`.
    pub fn apply(&self, root: &Path) -> Result<(), String> {
        if let Some(problem) = self.problems(root).into_iter().next() {
            return Err(problem);
        }
        for Replacement { file, old, new } in &self.replacements {
            let path = root.join(file);
            let failed = |error: std::io::Error| format!("{}: {error}", path.display());
            let text = std::fs::read_to_string(&path).map_err(failed)?;
            std::fs::write(&path, text.replacen(old.as_str(), new, 1)).map_err(failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "the title\nworld: node\nfile: a.rs\n<<<<\none\n  two\n====\nthree\n>>>>\n";

    #[test]
    fn reads_its_parts_and_says_what_is_missing() {
        let mutant = Mutant::parse("x/y-z.txt", TEXT).expect("well formed");
        assert_eq!((mutant.name.as_str(), mutant.title.as_str()), ("y-z", "the title"));
        assert_eq!(mutant.replacements[0].old, "one\n  two");
        for (text, expect) in [
            ("", "no known world"),
            ("t\nworld: moon\n", "no known world"),
            ("t\nworld: node\n", "breaks nothing"),
            ("t\nworld: node\nfile: a\n<<<<\nx\n", "==== is missing"),
            ("t\nworld: node\nfile: a\nx\n", "<<<< was expected"),
        ] {
            let why = Mutant::parse("m.txt", text).expect_err(text);
            assert!(why.contains(expect), "{why}");
        }
    }

    /// All of them fit the sources as they are: whoever changes a line that a mutant names learns it here.
    #[test]
    fn every_mutant_fits_the_sources() {
        let root = crate::project::root();
        let paths = crate::project::files("crates/sim/mutants", ".txt");
        assert!(paths.len() >= 12);
        for path in paths {
            let mutant = Mutant::parse(&path, &crate::project::read(&path)).expect("well formed");
            assert_eq!(mutant.problems(&root), [""; 0]);
            let gone = Mutant::parse("gone.txt", TEXT).expect("well formed");
            assert!(gone.problems(&root)[0].contains("0 times in a.rs"));
        }
    }
}
