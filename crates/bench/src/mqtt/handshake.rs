//! CONNECT and SUBSCRIBE, blocking.

use super::{first_packet, kind, packet_bytes, put_packet, topic, FLAGS};
use crate::dialogue::Dialogue;
use crate::failure::Failure;
use crate::plan::Plan;
use koine_workload::frames::wire::{Put, Reader};

/// CONNECT flags.
const CLEAN_START: u8 = 0x02;
const USER_NAME_AND_PASSWORD: u8 = 0xC0;
/// CONNECT property: how long the session outlives the connection, in seconds.
const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
const SESSION_EXPIRY_SECONDS: u32 = 3600;
/// CONNACK property.
const RECEIVE_MAXIMUM: u8 = 0x21;
/// Filters per SUBSCRIBE.
const FILTERS_MAX: usize = 500;

/// Connects and says how many messages above QoS 0 the broker takes at once.
pub fn connect(plan: &Plan, client: &str, clean: bool) -> Result<(Dialogue, u16), Failure> {
    let mut dialogue = Dialogue::open(&plan.addr)?;
    let mut content = Vec::new();
    content.put_short_text("MQTT");
    content.put_u8(plan.mqtt_version);
    let login = plan.login.as_ref().map_or(0, |_| USER_NAME_AND_PASSWORD);
    content.put_u8(login | if clean { CLEAN_START } else { 0 });
    content.put_u16(0); // no keep-alive
    if plan.mqtt_version == 5 {
        match clean {
            true => content.put_u8(0),
            false => {
                content.put_u8(5);
                content.put_u8(SESSION_EXPIRY_INTERVAL);
                content.put_u32(SESSION_EXPIRY_SECONDS);
            }
        }
    }
    content.put_short_text(client);
    if let Some((user, password)) = &plan.login {
        content.put_short_text(user);
        content.put_short_text(password);
    }
    let mut out = Vec::new();
    put_packet(&mut out, kind::CONNECT, &content);
    dialogue.say(&out)?;
    let answer = dialogue.hear(packet_bytes)?;
    let Some((first, content, _)) = first_packet(&answer)? else {
        return Err(Failure::Malformed("CONNACK"));
    };
    let mut reader = Reader::new(content, "CONNACK");
    reader.u8()?; // session present
    let reason = reader.u8()?;
    if first != kind::CONNACK || reason != 0 {
        return Err(Failure::Refused(format!(
            "CONNECT: packet {first:#04x}, reason {reason:#04x}"
        )));
    }
    let receive_max = if plan.mqtt_version == 5 { receive_maximum(&mut reader)? } else { u16::MAX };
    Ok((dialogue, receive_max))
}

/// Looks through CONNACK's properties (§3.2.2.3).
fn receive_maximum(reader: &mut Reader) -> Result<u16, Failure> {
    let mut receive_max = u16::MAX;
    let length = reader.u8()?;
    if length >= 0x80 {
        // Longer than any broker's here; the default is then only a guess, so do without it.
        return Err(reader.malformed().into());
    }
    let mut properties = Reader::new(reader.take(usize::from(length))?, "CONNACK");
    while let Ok(property) = properties.u8() {
        match property {
            RECEIVE_MAXIMUM => receive_max = properties.u16()?,
            // Bytes: maximum QoS, retain, wildcard, subscription ids, shared, available or not.
            0x24 | 0x25 | 0x28 | 0x29 | 0x2A => drop(properties.u8()?),
            // Two bytes: keep alive, topic alias maximum.
            0x13 | 0x22 => drop(properties.u16()?),
            // Four bytes: session expiry, maximum packet size.
            0x11 | 0x27 => drop(properties.u32()?),
            // Texts: assigned client id, response information, server reference, reason; a user
            // property is two.
            0x12 | 0x1A | 0x1C | 0x1F => drop(properties.short_bytes()?),
            0x26 => {
                properties.short_bytes()?;
                properties.short_bytes()?;
            }
            _ => return Err(properties.malformed().into()),
        }
    }
    Ok(receive_max)
}

pub fn subscribe(dialogue: &mut Dialogue, plan: &Plan, lanes: &[usize]) -> Result<(), Failure> {
    for lanes in lanes.chunks(FILTERS_MAX) {
        let mut content = Vec::new();
        content.put_u16(1); // packet identifier
        if plan.mqtt_version == 5 {
            content.put_u8(0);
        }
        for &lane in lanes {
            content.put_short_text(&topic(plan, lane));
            content.put_u8(plan.qos);
        }
        let mut out = Vec::new();
        put_packet(&mut out, kind::SUBSCRIBE | FLAGS, &content);
        dialogue.say(&out)?;
        let answer = dialogue.hear(packet_bytes)?;
        let Some((first, content, _)) = first_packet(&answer)? else {
            return Err(Failure::Malformed("SUBACK"));
        };
        let codes = content.len().checked_sub(lanes.len()).ok_or(Failure::Malformed("SUBACK"))?;
        let granted = content[codes..].iter().all(|&code| code == plan.qos);
        if first != kind::SUBACK || !granted {
            return Err(Failure::Refused(format!("SUBSCRIBE: {:02x?}", &content[codes..])));
        }
    }
    Ok(())
}
