//! Documents name only files that exist, and the two READMEs have the same headings at the same levels.

use super::source::Source;
use super::Problem;
use crate::project;

/// A word in a text that begins like this names a file or a directory of the project.
const PLACES: [&str; 6] = ["crates/", "docs/", "clients/", "conformance/", ".ci/", "scripts/"];
const READMES: [&str; 2] = ["README.md", "README.zh-CN.md"];

pub fn check(sources: &[Source]) -> Vec<Problem> {
    let root = project::root();
    let exists = |path: &str| root.join(path).exists();
    let mut problems = Vec::new();
    for path in project::files("", ".md") {
        let text = project::read(&path);
        for (number, line) in text.lines().enumerate() {
            let links = links(line).into_iter().filter(|link| !exists(&resolved(&path, link)));
            let places = places(line).into_iter().filter(|place| !exists(place)).map(str::to_owned);
            let missing: Vec<String> = links.chain(places).collect();
            problems.extend(
                missing
                    .into_iter()
                    .map(|name| format!("{path}:{}: no such file: {name}", number + 1)),
            );
        }
    }
    for source in sources.iter().filter(|source| source.crate_name() != "xtask") {
        for (number, line) in source.text.lines().enumerate() {
            let Some((_, comment)) = line.split_once("//") else {
                continue;
            };
            let missing = places(comment)
                .into_iter()
                .filter(|place| place.starts_with("docs/") && !exists(place));
            problems.extend(
                missing
                    .map(|place| format!("{}:{}: no such file: {place}", source.path, number + 1)),
            );
        }
    }
    problems.extend(readmes_differ(&READMES.map(project::read)));
    problems
}

/// The relative targets of `[text](target)` in a line, without their anchors.
fn links(line: &str) -> Vec<String> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let is_ours = |target: &&str| {
        !target.is_empty()
            && !target.contains("://")
            && !target.starts_with(['#', '<'])
            && !target.starts_with("mailto:")
    };
    targets
        .filter(is_ours)
        .filter_map(|target| target.split(['#', ' ']).next())
        .map(str::to_owned)
        .collect()
}

/// A link's target from the root, given the document it is in.
fn resolved(document: &str, link: &str) -> String {
    if let Some(absolute) = link.strip_prefix('/') {
        return absolute.to_owned();
    }
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Words that begin like a place of the project. Patterns (`*`, `<name>`, `NNNN`, braces) are no names.
fn places(line: &str) -> Vec<&str> {
    let is_end = |c: char| c.is_whitespace() || "`\"'(),;|[]".contains(c);
    let words = line.split(is_end).map(|word| word.trim_end_matches(['.', ':', '!', '?', '*']));
    let is_name = |word: &&str| {
        PLACES.iter().any(|place| word.starts_with(place))
            && !word.contains(['*', '<', '>', '{', '}', '…', '$'])
            && !word.contains("NNNN")
            && !word.contains("::")
    };
    words.filter(is_name).map(|word| word.split('#').next().unwrap_or(word)).collect()
}

fn heading_levels(text: &str) -> Vec<usize> {
    let mut levels = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        if !in_code && level > 0 && line[level..].starts_with(' ') {
            levels.push(level);
        }
    }
    levels
}

fn readmes_differ(texts: &[String; 2]) -> Option<Problem> {
    let [first, second] = texts.each_ref().map(|text| heading_levels(text));
    if first.is_empty() || second.is_empty() {
        return Some(format!(
            "{} and {} must both exist and have headings",
            READMES[0], READMES[1]
        ));
    }
    let at = (0..first.len().max(second.len())).find(|at| first.get(*at) != second.get(*at))?;
    Some(format!("{} and {} differ from heading {} on", READMES[0], READMES[1], at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_links_and_places() {
        let line = "See [a](b/c.md#d), [e](https://x.y), `crates/log/src/lib.rs`, docs/adr/NNNN-x.md and crates/*/src.";
        assert_eq!(links(line), ["b/c.md"]);
        assert_eq!(places(line), ["crates/log/src/lib.rs"]);
        assert_eq!(resolved("docs/user/kafka.md", "../glossary.md"), "docs/glossary.md");
        assert_eq!(resolved("README.md", "./docs/x.md"), "docs/x.md");
    }

    #[test]
    fn headings_are_compared_by_level() {
        let texts = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        assert_eq!(readmes_differ(&texts("# A\n```\n# no\n```\n## B\n", "# 一\n## 二\n")), None);
        assert!(readmes_differ(&texts("# A\n## B\n", "# 一\n")).is_some());
        assert!(readmes_differ(&texts("# A\n", "")).is_some());
    }
}
