//! Patterns of permissions: regular expressions over names, in linear time and bounded size. Unanchored,
//! as RabbitMQ's are; look-around and back-references are refused when they are set. Names are matched as
//! bytes, because a routing key need not be text.

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest pattern in bytes; RabbitMQ's bound.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// Of a compiled pattern, its variables filled in.
const COMPILED_BYTES_MAX: usize = 256 << 10;
/// How deep groups may nest.
const NESTING_MAX: u32 = 64;

const VARIABLES: [&str; 3] = ["{username}", "{vhost}", "{client_id}"];

pub(super) type Compiled = Regex;

/// One pattern, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pattern(String);

/// Why a pattern is refused; shown to whoever sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError(pub String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands for the variables of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Variables<'a> {
    pub username: &'a str,
    pub vhost: &'a str,
    pub client_id: Option<&'a str>,
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let pattern = Pattern(text.to_owned());
        pattern.check()?;
        Ok(pattern)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn has_variables(&self) -> bool {
        VARIABLES.iter().any(|variable| self.0.contains(variable))
    }

    pub(super) fn check(&self) -> Result<(), PatternError> {
        if self.0.len() > PATTERN_BYTES_MAX {
            let message = format!("a pattern has at most {PATTERN_BYTES_MAX} bytes");
            return Err(PatternError(message));
        }
        let sample = Variables { username: "u", vhost: "v", client_id: Some("c") };
        build(&self.filled(&sample).unwrap_or_default()).map(drop)
    }

    pub(super) fn compile(&self) -> Result<Compiled, PatternError> {
        build(&self.0)
    }

    /// Matches with the variables filled in. What cannot be compiled matches nothing.
    pub(super) fn matches_with(&self, name: &[u8], variables: &Variables<'_>) -> bool {
        let filled = self.filled(variables).and_then(|text| build(&text).ok());
        filled.is_some_and(|pattern| pattern.is_match(name))
    }

    /// The expression with every variable replaced by its value, as literal text. `None` if it needs a
    /// client id where there is none.
    fn filled(&self, variables: &Variables<'_>) -> Option<String> {
        let mut filled = String::with_capacity(self.0.len());
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            filled.push_str(before);
            let found = VARIABLES.iter().find(|variable| from.starts_with(**variable));
            let Some(variable) = found else {
                filled.push('{');
                rest = &from[1..];
                continue;
            };
            let value = match *variable {
                "{username}" => variables.username,
                "{vhost}" => variables.vhost,
                _ => variables.client_id?,
            };
            // Also inside of a class, where `-` and `&` would mean something.
            filled.push_str(&regex::escape(value));
            rest = &from[variable.len()..];
        }
        filled.push_str(rest);
        Some(filled)
    }
}

fn build(text: &str) -> Result<Compiled, PatternError> {
    // RabbitMQ reads the empty pattern as the one that matches the empty name alone.
    let text = if text.is_empty() { "^$" } else { text };
    let built = RegexBuilder::new(text)
        .unicode(false)
        .size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build();
    built.map_err(|error| PatternError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expect: bool) {
        let pattern = Pattern::new(pattern).expect("a sound pattern");
        assert_eq!(
            pattern.compile().expect("checked").is_match(name.as_bytes()),
            expect,
            "{pattern:?} on {name:?}"
        );
    }

    #[test]
    fn patterns_are_unanchored_and_the_empty_one_is_for_the_empty_name() {
        check("", "", true);
        check("", "a", false);
        check(".*", "", true);
        check("^a$", "a", true);
        check("^a$", "a\n", false);
        check("b", "abc", true);
    }

    #[test]
    fn what_cannot_be_matched_in_linear_time_is_refused() {
        for pattern in ["(?=a)", "(a)\\1", "a(?!b)", "[", "(a{1000}){1000}", &"(".repeat(100)] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::new(&"a".repeat(PATTERN_BYTES_MAX)).is_ok());
        assert!(Pattern::new(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }

    fn matches(pattern: &str, name: &str, username: &str, client_id: Option<&str>) -> bool {
        let pattern = Pattern::new(pattern).expect("a sound pattern");
        let variables = Variables { username, vhost: "/", client_id };
        pattern.matches_with(name.as_bytes(), &variables)
    }

    #[test]
    fn names_are_filled_in_as_text() {
        assert!(matches("^{username}$", "alice", "alice", None));
        for name in [".*", "a|b", "x-z", "[", "(", "^", "{username}", "\\", "a&&b", "#", "~"] {
            assert!(matches("^{username}$", name, name, None), "{name}");
            assert!(!matches("^{username}$", "y", name, None), "{name}");
        }
        assert!(!matches("^[{username}]$", "y", "x-z", None));
        assert!(matches("^c\\.{client_id}$", "c.one", "u", Some("one")));
        assert!(!matches("^c\\.{client_id}$", "c.one", "u", None));
        assert!(matches("^a{2}$", "aa", "u", None));
    }
}
