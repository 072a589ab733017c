//! Choices out of an input's bytes; when they run out every choice is 0.

pub struct Data<'a>(&'a [u8]);

impl<'a> Data<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Data(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.u16()) % bound
    }

    /// Up to so many bytes; a length comes first.
    pub fn piece(&mut self, max: usize) -> &'a [u8] {
        let length = self.below(max + 1).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        piece
    }

    /// As text, whatever the bytes.
    pub fn text(&mut self, max: usize) -> String {
        String::from_utf8_lossy(self.piece(max)).into_owned()
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
