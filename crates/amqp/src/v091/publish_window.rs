//! The publishes of one connection that wait to be confirmed: which confirm of which channel each
//! report of the broker decides.

use koine_broker::session::Token;
use std::collections::VecDeque;

/// The publish that a report settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    pub channel: u16,
    /// Which opening of the channel: its number may have been used again.
    pub incarnation: u32,
    pub sequence: u64,
}

/// Reports come mostly in order, so a ring with the token as index finds them without hashing. Its
/// length is bounded by the bytes of publishes that the node lets a connection have in flight.
#[derive(Debug, Default)]
pub struct PublishWindow {
    /// The token of `waiting[0]`.
    first: Token,
    /// `None` where reported out of order.
    waiting: VecDeque<Option<Confirmed>>,
}

impl PublishWindow {
    /// The token to publish with.
    pub fn open(&mut self, confirm: Confirmed) -> Token {
        self.waiting.push_back(Some(confirm));
        self.first + self.waiting.len() as u64 - 1
    }

    /// The broker has reported on `token`; the confirm that this decides.
    pub fn close(&mut self, token: Token) -> Option<Confirmed> {
        let index = token.checked_sub(self.first)?;
        let confirmed = self.waiting.get_mut(usize::try_from(index).ok()?)?.take();
        while matches!(self.waiting.front(), Some(None)) {
            self.waiting.pop_front();
            self.first += 1;
        }
        confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_are_found_in_any_order_and_once() {
        let mut window = PublishWindow::default();
        let confirm = |sequence| Confirmed { channel: 1, incarnation: 7, sequence };
        let tokens: Vec<Token> = (1..=3).map(|sequence| window.open(confirm(sequence))).collect();
        assert_eq!(window.close(tokens[1]), Some(confirm(2)));
        assert_eq!(window.close(tokens[1]), None);
        assert_eq!(window.close(tokens[0]), Some(confirm(1)));
        assert_eq!(window.close(tokens[2]), Some(confirm(3)));
        assert!(window.waiting.is_empty());
        assert_eq!(window.close(99), None);
        assert_eq!(window.open(confirm(4)), 3);
    }
}
