//! Content: the header that follows a method, its properties, and the body that follows in frames.
//! The raw property bytes are what is stored and forwarded; this file only reads them. A body is
//! never copied when it came in one frame, and never reserved before it has come.

use super::error::Malformed;
use super::frame::{FrameHead, FrameType};
use super::methods::BasicPublish;
use super::table::TableView;
use super::wire::Reader;
use bytes::{BufMut, Bytes, BytesMut};
use std::ops::Range;

/// The only class with content.
pub const CLASS_BASIC: u16 = 60;
/// Class id, weight and body size, before the property flags.
const HEADER_FIXED_SIZE: usize = 12;

/// A header frame's payload.
///
/// ```text
/// 0          2        4           12               14
/// +----------+--------+-----------+----------------+-- ... --+
/// | class id | weight | body size | property flags | values  |
/// +----------+--------+-----------+----------------+-- ... --+
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentHeader {
    pub class_id: u16,
    /// Must be 0; RabbitMQ answers anything else with 505.
    pub weight: u16,
    pub body_size: u64,
    /// Property flags and values, not yet checked.
    pub properties: Bytes,
}

impl ContentHeader {
    pub fn decode(payload: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let mut fixed = || Ok((reader.short()?, reader.short()?, reader.long_long()?));
        let (class_id, weight, body_size) =
            fixed().map_err(|_: Malformed| Malformed::ContentHeader)?;
        Ok(ContentHeader {
            class_id,
            weight,
            body_size,
            properties: payload.slice(HEADER_FIXED_SIZE..),
        })
    }

    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u16(self.class_id);
        out.put_u16(self.weight);
        out.put_u64(self.body_size);
        out.extend_from_slice(&self.properties);
    }
}

/// The properties of class basic, borrowed from their raw bytes, in the order of the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BasicProperties<'a> {
    pub content_type: Option<&'a [u8]>,
    pub content_encoding: Option<&'a [u8]>,
    pub headers: Option<TableView<'a>>,
    /// 1 transient, 2 persistent; other values count as transient.
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<&'a [u8]>,
    pub reply_to: Option<&'a [u8]>,
    /// Milliseconds as decimal text.
    pub expiration: Option<&'a [u8]>,
    pub message_id: Option<&'a [u8]>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    pub kind: Option<&'a [u8]>,
    pub user_id: Option<&'a [u8]>,
    pub app_id: Option<&'a [u8]>,
    pub cluster_id: Option<&'a [u8]>,
}

/// No property: two octets of flags, all zero.
pub const NO_PROPERTIES: [u8; 2] = [0, 0];
const FLAG_CONTINUES: u16 = 1;
/// The flag octets' bit that class basic leaves undefined; RabbitMQ ignores it, so do we.
const FLAG_UNUSED: u16 = 2;

impl<'a> BasicProperties<'a> {
    /// Checks everything, headers included, and allocates nothing.
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = raw;
        let flags = u16::from_be_bytes(take(&mut rest)?);
        let mut word = flags;
        while word & FLAG_CONTINUES != 0 {
            word = u16::from_be_bytes(take(&mut rest)?);
            if word & !FLAG_CONTINUES != 0 {
                // Flags beyond the first word stand for properties whose size nobody knows.
                return Err(Malformed::PropertyFlags(word));
            }
        }
        let mut bit = 15;
        let mut present = || {
            let set = flags >> bit & 1 == 1;
            bit -= 1;
            set
        };
        let rest = &mut rest;
        let properties = BasicProperties {
            content_type: present().then(|| take_short_text(rest)).transpose()?,
            content_encoding: present().then(|| take_short_text(rest)).transpose()?,
            headers: present().then(|| take_table(rest)).transpose()?,
            delivery_mode: present().then(|| take(rest).map(u8::from_be_bytes)).transpose()?,
            priority: present().then(|| take(rest).map(u8::from_be_bytes)).transpose()?,
            correlation_id: present().then(|| take_short_text(rest)).transpose()?,
            reply_to: present().then(|| take_short_text(rest)).transpose()?,
            expiration: present().then(|| take_short_text(rest)).transpose()?,
            message_id: present().then(|| take_short_text(rest)).transpose()?,
            timestamp: present().then(|| take(rest).map(u64::from_be_bytes)).transpose()?,
            kind: present().then(|| take_short_text(rest)).transpose()?,
            user_id: present().then(|| take_short_text(rest)).transpose()?,
            app_id: present().then(|| take_short_text(rest)).transpose()?,
            cluster_id: present().then(|| take_short_text(rest)).transpose()?,
        };
        if rest.is_empty() {
            return Ok(properties);
        }
        Err(Malformed::TrailingBytes)
    }

    /// Appends flags and values.
    pub fn encode(&self, out: &mut BytesMut) {
        let flags_position = out.len();
        out.put_u16(0);
        let mut flags = 0u16;
        let mut bit = 15;
        let mut put = |present: bool, write: &dyn Fn(&mut BytesMut), out: &mut BytesMut| {
            if present {
                flags |= 1 << bit;
                write(out);
            }
            bit -= 1;
        };
        let text = |value: Option<&'a [u8]>| move |out: &mut BytesMut| put_short_text(out, value);
        put(self.content_type.is_some(), &text(self.content_type), out);
        put(self.content_encoding.is_some(), &text(self.content_encoding), out);
        put(self.headers.is_some(), &|out| put_table(out, self.headers), out);
        put(self.delivery_mode.is_some(), &|out| out.extend(self.delivery_mode), out);
        put(self.priority.is_some(), &|out| out.extend(self.priority), out);
        put(self.correlation_id.is_some(), &text(self.correlation_id), out);
        put(self.reply_to.is_some(), &text(self.reply_to), out);
        put(self.expiration.is_some(), &text(self.expiration), out);
        put(self.message_id.is_some(), &text(self.message_id), out);
        put(self.timestamp.is_some(), &|out| out.put_u64(self.timestamp.unwrap_or_default()), out);
        put(self.kind.is_some(), &text(self.kind), out);
        put(self.user_id.is_some(), &text(self.user_id), out);
        put(self.app_id.is_some(), &text(self.app_id), out);
        put(self.cluster_id.is_some(), &text(self.cluster_id), out);
        out[flags_position..flags_position + 2].copy_from_slice(&flags.to_be_bytes());
    }

    pub fn is_persistent(&self) -> bool {
        self.delivery_mode == Some(2)
    }
}

const _: () = assert!(FLAG_UNUSED == FLAG_CONTINUES << 1, "14 properties, then two odd bits");

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    take_octets(rest, N)?.try_into().map_err(|_| Malformed::FieldPastEnd)
}

fn take_octets<'a>(rest: &mut &'a [u8], size: usize) -> Result<&'a [u8], Malformed> {
    if size > rest.len() {
        return Err(Malformed::FieldPastEnd);
    }
    let (taken, left) = rest.split_at(size);
    *rest = left;
    Ok(taken)
}

fn take_short_text<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let [size] = take::<1>(rest)?;
    let text = take_octets(rest, usize::from(size))?;
    std::str::from_utf8(text).map_err(|_| Malformed::ShortStringNotUtf8)?;
    Ok(text)
}

fn take_table<'a>(rest: &mut &'a [u8]) -> Result<TableView<'a>, Malformed> {
    let size = u32::from_be_bytes(take(rest)?);
    TableView::new(take_octets(rest, size as usize)?)
}

fn put_short_text(out: &mut BytesMut, text: Option<&[u8]>) {
    let text = text.unwrap_or_default();
    let size = text.len().min(255);
    out.put_u8(size as u8);
    out.extend_from_slice(&text[..size]);
}

fn put_table(out: &mut BytesMut, table: Option<TableView<'_>>) {
    let raw = table.unwrap_or_default().raw();
    out.put_u32(u32::try_from(raw.len()).expect("no buffer of this program reaches 4 GiB"));
    out.extend_from_slice(raw);
}

/// A body on its way: none, one shared piece that is all of it, or a copy that grows as pieces come. A
/// piece that has to wait for others would keep what was received around it.
#[derive(Debug)]
pub struct BodyAssembly {
    missing: u64,
    whole: Bytes,
    joined: BytesMut,
}

/// A body frame brought more than the header announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyTooLong;

impl BodyAssembly {
    /// `body_size` was checked against the limit by the caller; nothing is reserved for it.
    pub fn new(body_size: u64) -> Self {
        BodyAssembly { missing: body_size, whole: Bytes::new(), joined: BytesMut::new() }
    }

    pub fn add(&mut self, piece: Bytes) -> Result<(), BodyTooLong> {
        self.missing = self.missing.checked_sub(piece.len() as u64).ok_or(BodyTooLong)?;
        match self.missing == 0 && self.received() == 0 {
            true => self.whole = piece,
            false => self.joined.extend_from_slice(&piece),
        }
        Ok(())
    }

    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Bytes that have come so far.
    pub fn received(&self) -> usize {
        self.whole.len() + self.joined.len()
    }

    /// Bytes that it will have.
    pub fn size(&self) -> usize {
        self.received().saturating_add(usize::try_from(self.missing).unwrap_or(usize::MAX))
    }

    pub fn finish(self) -> Bytes {
        match self.joined.is_empty() {
            true => self.whole,
            false => self.joined.freeze(),
        }
    }
}

/// A publish whose method, header and body frames all lie in the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholePublish {
    pub channel: u16,
    pub publish: BasicPublish,
    pub properties: Bytes,
    pub body: Bytes,
}

/// Where the parts of a [`WholePublish`] lie; positions from the start of its first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholePublishLayout {
    channel: u16,
    method: Range<usize>,
    properties: Range<usize>,
    body: Range<usize>,
    /// Bytes of all its frames.
    pub size: usize,
}

impl WholePublishLayout {
    /// The fast path of a publishing client: `None` for anything but a publish with at most one body
    /// frame at the start of `input`; then the frame-by-frame path judges.
    pub fn find(input: &[u8], frame_max: u32) -> Option<Self> {
        const PUBLISH: [u8; 4] = [0, 60, 0, 40];
        let method = FrameHead::whole(input, frame_max).ok()??;
        if method.kind != FrameType::Method || method.channel == 0 {
            return None;
        }
        let method_range = method.payload_range(0);
        if !input[method_range.clone()].starts_with(&PUBLISH) {
            return None;
        }
        let header_position = method.frame_size();
        let header = FrameHead::whole(&input[header_position..], frame_max).ok()??;
        if header.kind != FrameType::Header || header.channel != method.channel {
            return None;
        }
        let header_range = header.payload_range(header_position);
        let (fixed, _) = input[header_range.clone()].split_at_checked(HEADER_FIXED_SIZE)?;
        let (class_and_weight, body_size) = fixed.split_first_chunk::<4>()?;
        if *class_and_weight != [0, CLASS_BASIC as u8, 0, 0] {
            return None;
        }
        let body_size = u64::from_be_bytes(body_size.try_into().ok()?);
        let body_position = header_position + header.frame_size();
        let layout = WholePublishLayout {
            channel: method.channel,
            method: method_range,
            properties: header_range.start + HEADER_FIXED_SIZE..header_range.end,
            body: 0..0,
            size: body_position,
        };
        if body_size == 0 {
            return Some(layout);
        }
        let body = FrameHead::whole(&input[body_position..], frame_max).ok()??;
        if body.kind != FrameType::Body
            || body.channel != method.channel
            || body.payload_size as u64 != body_size
        {
            return None;
        }
        let size = body_position + body.frame_size();
        Some(WholePublishLayout { body: body.payload_range(body_position), size, ..layout })
    }

    /// Takes the parts out of `block`, which starts with the bytes that this was found in.
    pub fn take(&self, block: &Bytes) -> Result<WholePublish, Malformed> {
        let method = block.slice(self.method.clone());
        let mut reader = Reader::new(&method);
        reader.long()?;
        let publish = BasicPublish {
            ticket: reader.short()?,
            exchange: reader.short_string()?,
            routing_key: reader.short_string()?,
            mandatory: reader.bit()?,
            immediate: reader.bit()?,
        };
        reader.finish()?;
        Ok(WholePublish {
            channel: self.channel,
            publish,
            properties: block.slice(self.properties.clone()),
            body: block.slice(self.body.clone()),
        })
    }
}

const _: () = assert!(CLASS_BASIC <= u8::MAX as u16, "its high octet is written as 0 above");

#[cfg(test)]
mod tests;
