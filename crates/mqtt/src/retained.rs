//! Retained messages on their way to a client that has subscribed. A filter may match all there are:
//! one filter is asked for at a time, a page of what it matches at a time, and the next when the client
//! has taken that.

use koine_broker::retained::ScanPosition;
use koine_broker::session::{RetainedMessage, RetainedPage};
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
    /// Where the first of `wanted` goes on.
    rest: Option<ScanPosition>,
    /// A page of what the first of `wanted` matches. The payloads are the store's own.
    messages: VecDeque<RetainedMessage>,
}

impl RetainedQueue {
    pub fn want(&mut self, wanted: Wanted) {
        self.wanted.push_back(wanted);
    }

    /// The filter to ask for now, and from behind which place on.
    pub fn next_page(&mut self) -> Option<(String, Option<ScanPosition>)> {
        if self.is_asked {
            return None;
        }
        let first = self.wanted.front()?;
        self.is_asked = true;
        Some((first.filter.clone(), self.rest.take()))
    }

    /// There is more to ask for if there is a `rest`.
    pub fn answered(&mut self, page: RetainedPage) {
        self.messages = page.messages.into();
        self.rest = page.rest;
        self.end_page();
    }

    /// The next message and whom it is for.
    pub fn next_message(&mut self) -> Option<(RetainedMessage, u8, Option<u32>)> {
        let message = self.messages.pop_front()?;
        let (qos, identifier) = self.wanted.front().map(|it| (it.qos, it.identifier))?;
        self.end_page();
        Some((message, qos, identifier))
    }

    fn end_page(&mut self) {
        if self.is_asked && self.messages.is_empty() {
            self.messages = VecDeque::new();
            self.is_asked = false;
            if self.rest.is_none() {
                self.wanted.pop_front();
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use koine_base::Timestamp;
    use koine_broker::message::{Content, Origin};
    use koine_broker::retained::{RetainedLimits, RetainedStore, ScanBudget};
    use koine_broker::router::{Filter, Subject};

    fn message(topic: &str) -> RetainedMessage {
        let content = Content {
            origin: Origin::Mqtt,
            envelope: Default::default(),
            key: None,
            body: None,
            timestamp: Timestamp(1),
        };
        RetainedMessage { topic: topic.to_owned(), content, qos: 0, expires_at: None }
    }

    fn position() -> ScanPosition {
        let mut store = RetainedStore::new(RetainedLimits { count_max: 9, bytes_max: 9_000 });
        for topic in ["a/1", "a/2"] {
            let subject = Subject::from_mqtt(topic).expect("a topic name");
            store.set(&subject, b"value", None, Timestamp(1)).expect("there is room");
        }
        let filter = Filter::from_mqtt("a/#").expect("a filter");
        let budget = ScanBudget { count_max: 1, node_count_max: 9 };
        store.matching(&filter, None, Timestamp(1), budget, |_| {}).expect("there are two")
    }

    fn wanted(filter: &str) -> Wanted {
        Wanted { filter: filter.to_owned(), qos: 0, identifier: None }
    }

    #[test]
    fn the_next_page_is_asked_for_when_the_one_before_is_taken() {
        let position = position();
        let mut queue = RetainedQueue::default();
        queue.want(wanted("a/#"));
        queue.want(wanted("b"));
        assert_eq!(queue.next_page(), Some(("a/#".to_owned(), None)));
        assert_eq!(queue.next_page(), None, "one at a time");
        queue.answered(RetainedPage {
            messages: vec![message("a/1"), message("a/2")],
            rest: Some(position.clone()),
        });
        assert_eq!(queue.next_page(), None);
        assert!(queue.next_message().is_some() && queue.is_waiting());
        assert_eq!(queue.next_page(), None);
        assert!(queue.next_message().is_some());
        assert_eq!(queue.next_page(), Some(("a/#".to_owned(), Some(position.clone()))));
        // A page may be empty and not the last.
        queue.answered(RetainedPage { messages: Vec::new(), rest: Some(position.clone()) });
        assert_eq!(queue.next_page(), Some(("a/#".to_owned(), Some(position))));
        queue.answered(RetainedPage { messages: Vec::new(), rest: None });
        assert_eq!(queue.next_page(), Some(("b".to_owned(), None)));
        queue.answered(RetainedPage { messages: Vec::new(), rest: None });
        assert_eq!(queue.next_page(), None);
    }
}
