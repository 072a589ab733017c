//! An output buffer that mixes small encoded pieces with large shared ones, so that a stored batch
//! goes from the tail cache to the socket without a copy.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Pieces below this size are copied into the tail: one copy is cheaper than one more `iovec`.
const SHARED_BYTES_MIN: usize = 1024;

/// A first-in first-out byte sequence. Writers append at the tail; the socket consumes at the head.
#[derive(Default, Debug)]
pub struct Rope {
    pieces: VecDeque<Bytes>,
    pieces_bytes: usize,
    tail: BytesMut,
}

impl Rope {
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.pieces_bytes + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The growing tail, for encoders. Positions in it are valid until the next `push`.
    pub fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Appends `bytes`, sharing it if it is large.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.tail.extend_from_slice(&bytes);
            return;
        }
        self.seal_tail();
        self.pieces_bytes += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// Moves everything out of `other` to the end of this rope.
    pub fn append(&mut self, other: &mut Rope) {
        if other.pieces.is_empty() && other.tail.len() < SHARED_BYTES_MIN {
            self.tail.extend_from_slice(&other.tail);
            other.tail.clear();
            return;
        }
        other.seal_tail();
        self.seal_tail();
        self.pieces_bytes += other.pieces_bytes;
        other.pieces_bytes = 0;
        self.pieces.append(&mut other.pieces);
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let piece = self.tail.split().freeze();
            self.pieces_bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The waiting pieces from the head, for a vectored write; at most `count_max`.
    pub fn slices(&mut self, count_max: usize) -> impl Iterator<Item = &[u8]> {
        self.seal_tail();
        self.pieces.iter().take(count_max).map(|piece| &piece[..])
    }

    /// Drops the first `count` bytes: they were written.
    pub fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len(), "advanced past the end of the rope");
        self.seal_tail();
        self.pieces_bytes -= count;
        while count > 0 {
            let head = self.pieces.front_mut().expect("length was checked above");
            if head.len() > count {
                let _ = head.split_to(count);
                return;
            }
            count -= head.len();
            self.pieces.pop_front();
        }
    }

    /// Keeps the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.seal_tail();
        while self.pieces_bytes > length {
            let Some(mut last) = self.pieces.pop_back() else { break };
            self.pieces_bytes -= last.len();
            if self.pieces_bytes < length {
                last.truncate(length - self.pieces_bytes);
                self.pieces_bytes += last.len();
                self.pieces.push_back(last);
            }
        }
    }

    /// Everything as one contiguous buffer; for tests and small messages.
    pub fn take_all(&mut self) -> Bytes {
        self.seal_tail();
        self.pieces_bytes = 0;
        if self.pieces.len() == 1 {
            return self.pieces.pop_front().unwrap_or_default();
        }
        let mut all = BytesMut::new();
        for piece in self.pieces.drain(..) {
            all.extend_from_slice(&piece);
        }
        all.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_across_small_and_large_pieces() {
        let mut rope = Rope::new();
        let large = Bytes::from(vec![7u8; 5000]);
        rope.put(b"head");
        rope.push(large.clone());
        rope.push(Bytes::from_static(b"small"));
        let mut other = Rope::new();
        other.put(b"other");
        other.push(large.clone());
        rope.append(&mut other);
        assert!(other.is_empty());
        let mut expect = b"head".to_vec();
        expect.extend_from_slice(&large);
        expect.extend_from_slice(b"smallother");
        expect.extend_from_slice(&large);
        assert_eq!(rope.len(), expect.len());

        let mut seen = Vec::new();
        while !rope.is_empty() {
            let first: Vec<u8> = rope.slices(1).next().expect("not empty").to_vec();
            let step = first.len().min(333);
            seen.extend_from_slice(&first[..step]);
            rope.advance(step);
        }
        assert_eq!(seen, expect);
    }

    #[test]
    fn truncation_keeps_the_front() {
        for length in [0, 1, 3, 4, 5, 2003, 2004, 2005, 2008, 5000] {
            let mut rope = Rope::new();
            rope.put(b"head");
            rope.push(Bytes::from(vec![7u8; 2000]));
            rope.put(b"tail");
            let mut expect = [b"head".as_slice(), &[7; 2000], b"tail"].concat();
            expect.truncate(length);
            rope.truncate(length);
            assert_eq!(rope.len(), expect.len());
            rope.put(b"more");
            expect.extend_from_slice(b"more");
            assert_eq!(rope.take_all(), expect, "{length}");
        }
    }
}
