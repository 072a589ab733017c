//! Decompression of a batch's records into one buffer that never outgrows the limits, whatever the
//! compressed bytes claim about their size.

use super::{BatchError, BatchLimits, Codec};
use bytes::Bytes;
use std::io::Read;

/// Bytes asked of a decoder at a time.
const STEP_BYTES: usize = 64 << 10;

/// The window that RFC 8878 §3.1.1.1.2 asks every decoder to support. Java's producers at zstd
/// levels 20 to 22 ask for up to 128 MiB; that is granted up to the decompressed limit.
const ZSTD_WINDOW_BYTES_MIN: u64 = 8 << 20;

/// A snappy copy takes three bytes for at most 64, so no block expands more than this.
const SNAPPY_RATIO_MAX: usize = 32;

/// First bytes of the Java snappy library's own framing: then two 32-bit versions, then blocks of
/// {32-bit length, raw snappy}.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

/// What an LZ4 frame begins with.
const LZ4_MAGIC: [u8; 4] = 0x184D_2204u32.to_le_bytes();

pub(super) fn decompress(
    codec: Codec,
    payload: &[u8],
    limits: &BatchLimits,
) -> Result<Bytes, BatchError> {
    let allowed = limits.decompressed_bytes_allowed(payload.len());
    let mut out = Output { bytes: Vec::new(), filled: 0, allowed };
    match codec {
        Codec::None => return Ok(Bytes::copy_from_slice(payload)),
        Codec::Gzip => out.drain(flate2::bufread::MultiGzDecoder::new(payload))?,
        Codec::Snappy => snappy(payload, &mut out)?,
        // Not the older format, which the decoder knows as well: its blocks have 8 MiB, whatever is in them.
        Codec::Lz4 if !payload.starts_with(&LZ4_MAGIC) => return Err(BatchError::Decompression),
        Codec::Lz4 => out.drain(lz4_flex::frame::FrameDecoder::new(payload))?,
        Codec::Zstd => zstd(payload, &mut out)?,
    }
    out.bytes.truncate(out.filled);
    Ok(Bytes::from(out.bytes))
}

struct Output {
    /// Zeroed ahead of what is filled, so that a decoder which gives byte by byte costs no more.
    bytes: Vec<u8>,
    filled: usize,
    allowed: usize,
}

impl Output {
    /// Appends all that `decoder` gives. Grows with what really came out, not with what was claimed.
    fn drain(&mut self, mut decoder: impl Read) -> Result<(), BatchError> {
        loop {
            if self.filled == self.bytes.len() {
                // One byte beyond what is allowed tells a full buffer from one that overflows.
                let room = self.allowed - self.filled + 1;
                self.bytes.resize(self.filled + room.min(STEP_BYTES), 0);
            }
            match decoder.read(&mut self.bytes[self.filled..]) {
                Ok(0) => return Ok(()),
                Ok(count) => self.filled += count,
                Err(_) => return Err(BatchError::Decompression),
            }
            if self.filled > self.allowed {
                return Err(BatchError::DecompressedTooLarge);
            }
        }
    }

    /// Appends one raw snappy block. Its claimed size is checked before room is made.
    fn append_snappy(&mut self, block: &[u8]) -> Result<(), BatchError> {
        let size = snap::raw::decompress_len(block).map_err(|_| BatchError::Decompression)?;
        if size > self.allowed - self.filled {
            return Err(BatchError::DecompressedTooLarge);
        }
        // Snappy cannot shrink more than this; a larger claim is damage and must not take memory.
        if size > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(BatchError::Decompression);
        }
        self.bytes.resize(self.filled + size, 0);
        let written = snap::raw::Decoder::new()
            .decompress(block, &mut self.bytes[self.filled..])
            .map_err(|_| BatchError::Decompression)?;
        self.filled += written;
        Ok(())
    }
}

fn snappy(payload: &[u8], out: &mut Output) -> Result<(), BatchError> {
    if !payload.starts_with(XERIAL_MAGIC) {
        return out.append_snappy(payload);
    }
    let mut rest = payload.get(XERIAL_HEADER_BYTES..).ok_or(BatchError::Decompression)?;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let block = behind.get(..length).ok_or(BatchError::Decompression)?;
        out.append_snappy(block)?;
        rest = &behind[length..];
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(BatchError::Decompression)
    }
}

/// One or more frames one after the other; skippable frames (RFC 8878 §3.1.2) are skipped.
fn zstd(payload: &[u8], out: &mut Output) -> Result<(), BatchError> {
    use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
    use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

    let mut rest = payload;
    let mut frame_decoder = FrameDecoder::new();
    frame_decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MIN.max(out.allowed as u64));
    while !rest.is_empty() {
        let source = rest;
        match StreamingDecoder::new_with_decoder(source, &mut frame_decoder) {
            Ok(mut stream) => {
                out.drain(&mut stream)?;
                rest = stream.into_inner();
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                // Magic and length, 4 bytes each, then the skipped content.
                rest = source
                    .get(8..)
                    .and_then(|rest| rest.get(length as usize..))
                    .ok_or(BatchError::Decompression)?;
                continue;
            }
            Err(_) => return Err(BatchError::Decompression),
        }
        let stored = frame_decoder.get_checksum_from_data();
        if stored.is_some() && stored != frame_decoder.get_calculated_checksum() {
            return Err(BatchError::Decompression);
        }
    }
    Ok(())
}
