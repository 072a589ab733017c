//! PUBREL from the client (MQTT 5 §3.6): the identifier of an exactly-once publish is free again.

use crate::codec::{Acknowledgement, Packet};
use crate::error::{End, ReasonCode};
use crate::session::MqttSession;
use koine_broker::session::Context;

impl MqttSession {
    /// PUBCOMP follows at the end of the step, or once group 0 has forgotten the identifier if it had noted it:
    /// the client may use it again as soon as it sees PUBCOMP.
    pub(crate) fn on_pubrel(
        &mut self,
        pubrel: &Acknowledgement,
        ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        if self.incoming.release(pubrel.packet_identifier) {
            return Ok(());
        }
        let mut pubcomp = Acknowledgement::new(pubrel.packet_identifier);
        pubcomp.reason = ReasonCode::PacketIdentifierNotFound;
        self.encode(&Packet::Pubcomp(pubcomp), ctx);
        Ok(())
    }
}
