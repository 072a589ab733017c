//! A connection, logged in by SASL PLAIN if the plan has a name and a password.

use super::{finish, frame_bytes, refused, request};
use crate::dialogue::Dialogue;
use crate::failure::Failure;
use crate::plan::Plan;
use koine_workload::frames::wire::{Put, Reader};

const SASL_HANDSHAKE: i16 = 17;
const SASL_AUTHENTICATE: i16 = 36;

pub fn open(plan: &Plan, addr: &str) -> Result<Dialogue, Failure> {
    let mut dialogue = Dialogue::open(addr)?;
    let Some((user, password)) = &plan.login else {
        return Ok(dialogue);
    };
    let mut handshake = request(SASL_HANDSHAKE, 1, 1);
    handshake.put_short_text("PLAIN");
    let token = format!("\0{user}\0{password}");
    let mut authenticate = request(SASL_AUTHENTICATE, 0, 2);
    authenticate.put_i32(token.len() as i32);
    authenticate.extend_from_slice(token.as_bytes());
    for (what, frame) in [("SaslHandshake", handshake), ("SaslAuthenticate", authenticate)] {
        dialogue.say(&finish(frame))?;
        let answer = dialogue.hear(frame_bytes)?;
        let mut reader = Reader::new(answer.get(8..).unwrap_or_default(), "SASL response");
        match reader.i16()? {
            0 => {}
            code => return Err(refused(what, code)),
        }
    }
    Ok(dialogue)
}
