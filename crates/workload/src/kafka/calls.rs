//! Requests of one connection that wait for their answers. Kafka answers a connection in order.

use crate::frames::kafka::{finish, first_frame, request};
use crate::frames::wire::Reader;
use crate::frames::Malformed;
use std::collections::VecDeque;

const CLIENT_ID: &str = "koine-workload";

/// `A` says what an answer will be about.
#[derive(Debug)]
pub struct Calls<A> {
    next: i32,
    waiting: VecDeque<(i32, A)>,
}

impl<A> Default for Calls<A> {
    fn default() -> Self {
        Calls { next: 0, waiting: VecDeque::new() }
    }
}

impl<A> Calls<A> {
    pub fn ask(
        &mut self,
        out: &mut Vec<u8>,
        (key, version): (i16, i16),
        about: A,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        self.next = self.next.wrapping_add(1);
        let mut frame = request(key, version, self.next, CLIENT_ID);
        fill(&mut frame);
        out.extend_from_slice(&finish(frame));
        self.waiting.push_back((self.next, about));
    }

    /// The first whole answer, what it is about, and the bytes it takes.
    pub fn answer<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<Option<(A, Reader<'a>, usize)>, Malformed> {
        let Some((mut reader, bytes)) = first_frame(input, "answer") else { return Ok(None) };
        let correlation = reader.i32()?;
        match self.waiting.pop_front() {
            Some((asked, about)) if asked == correlation => Ok(Some((about, reader, bytes))),
            _ => Err(Malformed("answer: its correlation id is not the next one")),
        }
    }

    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    /// The connection is gone.
    pub fn clear(&mut self) -> impl Iterator<Item = A> + '_ {
        self.waiting.drain(..).map(|(_, about)| about)
    }
}
