//! MQTT 3.1.1 and 5: a lane is a topic, and every subscriber of it gets every message.

mod handshake;
mod publisher;
mod subscriber;

use crate::dialogue::Dialogue;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::protocol::{Opened, Protocol};
use koine_workload::frames::mqtt::{
    first_packet, kind, packet_bytes, put_answer, put_packet, FLAGS,
};

pub struct Mqtt;

impl Protocol for Mqtt {
    /// Topics need no creation; this only finds out early whether the broker answers.
    fn prepare(&mut self, plan: &Plan) -> Result<(), Failure> {
        handshake::connect(plan, &format!("{}-probe", plan.name()), true).map(drop)
    }

    fn producer(&self, plan: &Plan, index: usize) -> Result<Opened, Failure> {
        let client = format!("{}-pub-{index}", plan.name());
        let (dialogue, receive_max) = handshake::connect(plan, &client, true)?;
        let link = publisher::Publisher::new(plan, index, receive_max);
        Ok(Opened { dialogue, link: Box::new(link) })
    }

    fn consumer(&self, plan: &Plan, index: usize) -> Result<Opened, Failure> {
        let client = subscriber_name(plan, index);
        let (mut dialogue, _) = handshake::connect(plan, &client, !plan.persistent_session)?;
        handshake::subscribe(&mut dialogue, plan, &plan.lanes_of(index, plan.consumers))?;
        Ok(Opened { dialogue, link: Box::new(subscriber::Subscriber::new(plan)) })
    }

    fn clean_up(&self, plan: &Plan) -> Result<(), Failure> {
        if !plan.persistent_session {
            return Ok(());
        }
        // A clean start discards what the session left.
        for index in 0..plan.consumers {
            let client = subscriber_name(plan, index);
            let (mut dialogue, _): (Dialogue, _) = handshake::connect(plan, &client, true)?;
            dialogue.say(&[kind::DISCONNECT, 0])?;
        }
        Ok(())
    }

    fn promise(&self, plan: &Plan) -> String {
        let version = if plan.mqtt_version == 5 { "MQTT 5" } else { "MQTT 3.1.1" };
        let session = if plan.persistent_session { "persistent" } else { "clean" };
        format!("{version}, QoS {}, {session} session", plan.qos)
    }
}

fn subscriber_name(plan: &Plan, index: usize) -> String {
    format!("{}-sub-{index}", plan.name())
}

fn topic(plan: &Plan, lane: usize) -> String {
    format!("bench/{}", plan.lane_name(lane))
}

/// The packet identifier of PUBACK, PUBREC, PUBREL and PUBCOMP, if the reason is a success.
fn answered(content: &[u8]) -> Result<u16, Failure> {
    let identifier = content.first_chunk::<2>().ok_or(Failure::Malformed("acknowledgement"))?;
    match content.get(2) {
        // §2.4: reasons below 0x80 are successes, such as "no matching subscribers".
        None | Some(0..=0x7F) => Ok(u16::from_be_bytes(*identifier)),
        Some(reason) => Err(Failure::Refused(format!("PUBLISH: reason {reason:#04x}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_a_failing_reason_are_refusals() {
        assert_eq!(answered(&[1, 2]).unwrap(), 0x102);
        assert_eq!(answered(&[1, 2, 0x10, 0]).unwrap(), 0x102);
        assert!(answered(&[1, 2, 0x97]).is_err());
        assert!(answered(&[1]).is_err());
    }
}
