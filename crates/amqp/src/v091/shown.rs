//! One record as an AMQP client is shown it, whoever wrote it.

use super::content::{BasicProperties, NO_PROPERTIES};
use super::message::{expiration_ms, translate, Envelope, Translated};
use super::output::Content as Outgoing;
use bytes::Bytes;
use koine_base::Timestamp;
use koine_broker::message::{from_record, Content, Dialects, Origin};
use koine_broker::session::{Delivery, Meter, LATENCY_BUCKETS};

/// The property flag of `expiration` (0-9-1: the eighth property from the top).
const EXPIRATION_FLAG: u8 = 1;

pub(super) struct Shown {
    content: Content,
    /// `None` if AMQP wrote it: then the envelope is shown as it is.
    translated: Option<Translated>,
    expiry_ms: Option<u64>,
    body: Bytes,
}

impl Shown {
    /// `queue`: the name it was read from.
    pub(super) fn new(delivery: &Delivery, queue: &str, dialects: &Dialects) -> Self {
        let (content, _) = from_record(&delivery.record);
        let body = content.body.clone().unwrap_or_default();
        if content.origin == Origin::Amqp091 {
            let expiry_ms = own_expiry_ms(&content);
            return Shown { content, translated: None, expiry_ms, body };
        }
        let message = dialects.message(&content);
        let translated = Some(translate(&message, queue));
        Shown { content, translated, expiry_ms: message.expiry_ms, body }
    }

    pub(super) fn envelope(&self) -> Envelope<'_> {
        match &self.translated {
            Some(translated) => Envelope {
                exchange: translated.exchange.as_bytes(),
                routing_key: translated.routing_key.as_bytes(),
                properties: &translated.properties,
            },
            None => Envelope::decode(&self.content.envelope).unwrap_or(Envelope {
                exchange: b"",
                routing_key: b"",
                properties: &NO_PROPERTIES,
            }),
        }
    }

    pub(super) fn content(&self, frame_max: u32) -> Outgoing<'_> {
        Outgoing { properties: self.envelope().properties, body: &self.body, frame_max }
    }

    /// Its time is up: it is not to be delivered.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        let Some(expiry_ms) = self.expiry_ms else {
            return false;
        };
        let age_ms = now.0.saturating_sub(self.content.timestamp.0);
        u64::try_from(age_ms).is_ok_and(|age_ms| age_ms > expiry_ms)
    }

    /// Counts it as delivered.
    pub(super) fn count(&self, redelivered: bool, now: Timestamp, meter: &mut Meter) {
        meter.messages_out += 1;
        meter.message_bytes_out += self.body.len() as u64;
        meter.redelivered += u64::from(redelivered);
        let age_ms = u64::try_from(now.0.saturating_sub(self.content.timestamp.0)).unwrap_or(0);
        let age_us = age_ms.saturating_mul(1000);
        let bucket = (u64::BITS - age_us.leading_zeros()) as usize;
        let origin = usize::from(self.content.origin.number());
        meter.delivery_latency[origin][bucket.min(LATENCY_BUCKETS - 1)] += 1;
        meter.delivery_latency_sum_us[origin] += age_us;
    }
}

fn own_expiry_ms(content: &Content) -> Option<u64> {
    let properties = Envelope::decode(&content.envelope)?.properties;
    if properties.first()? & EXPIRATION_FLAG == 0 {
        return None;
    }
    expiration_ms(BasicProperties::parse(properties).ok()?.expiration?)
}
