//! Retained messages on their way to a client that has subscribed. A filter may match all there are:
//! one filter is asked for at a time, and what it matched leaves as the client takes it.

use koine_broker::session::RetainedMessage;
use std::collections::VecDeque;

/// Filters that wait to be asked for; above it the client is not read.
const WANTED_MAX: usize = 1024;

/// The retained messages of one filter.
#[derive(Debug)]
pub struct Wanted {
    pub filter: String,
    /// Granted to the subscription.
    pub qos: u8,
    pub identifier: Option<u32>,
}

#[derive(Debug, Default)]
pub struct RetainedQueue {
    wanted: VecDeque<Wanted>,
    /// The first of `wanted` is with the engine.
    is_asked: bool,
    /// What the first of `wanted` matched. The payloads are the store's own.
    messages: VecDeque<RetainedMessage>,
}

impl RetainedQueue {
    pub fn want(&mut self, wanted: Wanted) {
        self.wanted.push_back(wanted);
    }

    /// The filter to ask for now.
    pub fn next_filter(&mut self) -> Option<String> {
        if self.is_asked {
            return None;
        }
        let first = self.wanted.front()?;
        self.is_asked = true;
        Some(first.filter.clone())
    }

    pub fn answered(&mut self, messages: Vec<RetainedMessage>) {
        self.messages = messages.into();
        self.end_filter();
    }

    /// The next message and whom it is for.
    pub fn next_message(&mut self) -> Option<(RetainedMessage, u8, Option<u32>)> {
        let message = self.messages.pop_front()?;
        let (qos, identifier) = self.wanted.front().map(|it| (it.qos, it.identifier))?;
        self.end_filter();
        Some((message, qos, identifier))
    }

    fn end_filter(&mut self) {
        if self.is_asked && self.messages.is_empty() {
            self.messages = VecDeque::new();
            self.wanted.pop_front();
            self.is_asked = false;
        }
    }

    /// There are messages that could not leave yet.
    pub fn is_waiting(&self) -> bool {
        !self.messages.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.wanted.len() >= WANTED_MAX
    }
}
