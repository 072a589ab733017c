//! Frames on their way out. Everything small goes into the rope's tail; a large body is shared with
//! the cache it came from. Sizes are right by construction, so nothing here can fail.

use super::content::CLASS_BASIC;
use super::frame::{FrameType, FRAME_END, FRAME_OVERHEAD};
use super::methods::{BasicDeliver, BasicGetOk, BasicReturn, Method, MethodId};
use super::wire::Writer;
use bytes::{BufMut, Bytes, BytesMut};
use koine_base::Rope;

/// The answer to silence: type 8 on channel 0, empty.
pub const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];

/// Body bytes below this go through the tail: with their frames around them they are one write.
const BODY_SHARED_MIN: usize = 1024;

pub fn put_method(out: &mut Rope, channel: u16, method: &Method) {
    put_frame(out.tail(), FrameType::Method, channel, |payload| method.encode(payload));
}

/// What `basic.deliver` says, borrowed, so that a delivery costs no allocation.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    pub consumer_tag: &'a [u8],
    pub delivery_tag: u64,
    pub redelivered: bool,
    pub exchange: &'a [u8],
    pub routing_key: &'a [u8],
}

/// `properties` and `body` of a message and how large frames may be.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    pub properties: &'a [u8],
    pub body: &'a Bytes,
    /// As negotiated; the body is cut to fit. The header frame cannot be cut, so properties larger
    /// than this go out whole, as RabbitMQ sends them.
    pub frame_max: u32,
}

pub fn put_deliver(out: &mut Rope, channel: u16, delivery: Delivery<'_>, content: Content<'_>) {
    put_frame(out.tail(), FrameType::Method, channel, |payload| {
        let mut writer = start(payload, BasicDeliver::ID);
        writer.short_text(delivery.consumer_tag);
        writer.long_long(delivery.delivery_tag);
        writer.bit(delivery.redelivered);
        writer.short_text(delivery.exchange);
        writer.short_text(delivery.routing_key);
    });
    put_content(out, channel, content);
}

/// `basic.get-ok`; the delivery's consumer tag is not used. `message_count`: ready messages left.
pub fn put_get_ok(
    out: &mut Rope,
    channel: u16,
    delivery: Delivery<'_>,
    message_count: u32,
    content: Content<'_>,
) {
    put_frame(out.tail(), FrameType::Method, channel, |payload| {
        let mut writer = start(payload, BasicGetOk::ID);
        writer.long_long(delivery.delivery_tag);
        writer.bit(delivery.redelivered);
        writer.short_text(delivery.exchange);
        writer.short_text(delivery.routing_key);
        writer.long(message_count);
    });
    put_content(out, channel, content);
}

pub fn put_return(out: &mut Rope, channel: u16, returned: &BasicReturn, content: Content<'_>) {
    put_frame(out.tail(), FrameType::Method, channel, |payload| {
        let mut writer = start(payload, BasicReturn::ID);
        writer.short(returned.reply_code);
        writer.short_string(&returned.reply_text);
        writer.short_string(&returned.exchange);
        writer.short_string(&returned.routing_key);
    });
    put_content(out, channel, content);
}

/// Header frame and body frames; an empty body has no body frame.
pub fn put_content(out: &mut Rope, channel: u16, content: Content<'_>) {
    put_frame(out.tail(), FrameType::Header, channel, |payload| {
        payload.put_u16(CLASS_BASIC);
        payload.put_u16(0);
        payload.put_u64(content.body.len() as u64);
        payload.extend_from_slice(content.properties);
    });
    let piece_size = (content.frame_max as usize).saturating_sub(FRAME_OVERHEAD).max(1);
    let mut start = 0;
    while start < content.body.len() {
        let end = content.body.len().min(start.saturating_add(piece_size));
        put_body(out, channel, content.body, start, end);
        start = end;
    }
}

fn put_body(out: &mut Rope, channel: u16, body: &Bytes, start: usize, end: usize) {
    let size = end - start;
    let tail = out.tail();
    put_head(tail, FrameType::Body, channel, size);
    if size < BODY_SHARED_MIN {
        tail.extend_from_slice(&body[start..end]);
    } else {
        out.push(body.slice(start..end));
    }
    out.tail().put_u8(FRAME_END);
}

fn start(payload: &mut BytesMut, (class_id, method_id): MethodId) -> Writer<'_> {
    let mut writer = Writer::new(payload);
    writer.short(class_id);
    writer.short(method_id);
    writer
}

fn put_head(out: &mut BytesMut, kind: FrameType, channel: u16, size: usize) {
    out.put_u8(kind as u8);
    out.put_u16(channel);
    out.put_u32(u32::try_from(size).expect("no buffer of this program reaches 4 GiB"));
}

fn put_frame(
    out: &mut BytesMut,
    kind: FrameType,
    channel: u16,
    write_payload: impl FnOnce(&mut BytesMut),
) {
    put_head(out, kind, channel, 0);
    let payload_position = out.len();
    write_payload(out);
    let size = u32::try_from(out.len() - payload_position)
        .expect("no buffer of this program reaches 4 GiB");
    out[payload_position - 4..payload_position].copy_from_slice(&size.to_be_bytes());
    out.put_u8(FRAME_END);
}
