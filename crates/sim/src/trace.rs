//! What happened, line by line: hashed always, kept whole or only its end.

use koine_base::checksum::crc32c;
use std::collections::VecDeque;

/// Lines kept when the whole trace is not.
const TAIL_LINES: usize = 120;

#[derive(Debug)]
pub struct Trace {
    keep_all: bool,
    lines: VecDeque<String>,
    hash: u64,
    line_count: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Trace::tail()
    }
}

impl Trace {
    /// Keeps the last lines only.
    pub fn tail() -> Self {
        Trace { keep_all: false, lines: VecDeque::new(), hash: 0, line_count: 0 }
    }

    pub fn whole() -> Self {
        Trace { keep_all: true, ..Trace::tail() }
    }

    pub fn line(&mut self, line: String) {
        let sum = u64::from(crc32c(line.as_bytes()));
        self.hash = (self.hash ^ sum).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        self.line_count += 1;
        if !self.keep_all && self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Of every line so far, in order.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn line_count(&self) -> u64 {
        self.line_count
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
