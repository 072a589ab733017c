//! PUBACK, PUBREC and PUBCOMP from the client (MQTT 5 §3.4, §3.5, §3.7): how deliveries end.

use crate::codec::{Acknowledgement, Packet};
use crate::error::{End, ReasonCode, Violation};
use crate::outgoing::Awaited;
use crate::session::MqttSession;
use koine_broker::session::Context;

impl MqttSession {
    pub(crate) fn on_puback(
        &mut self,
        puback: &Acknowledgement,
        _ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        let packet_identifier = puback.packet_identifier;
        match self.outgoing.find(packet_identifier).map(|entry| entry.awaited) {
            // A refusal ends the exchange as well (§4.3.2).
            Some(Awaited::Puback) => self.outgoing.complete(packet_identifier),
            Some(_) => return Err(Violation::UnexpectedPacket.into()),
            None => {}
        }
        Ok(())
    }

    pub(crate) fn on_pubrec(
        &mut self,
        pubrec: &Acknowledgement,
        ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        let packet_identifier = pubrec.packet_identifier;
        let mut pubrel = Acknowledgement::new(packet_identifier);
        match self.outgoing.find(packet_identifier).map(|entry| entry.awaited) {
            Some(Awaited::Pubrec) if pubrec.reason.is_failure() => {
                self.outgoing.complete(packet_identifier);
                return Ok(());
            }
            Some(Awaited::Pubrec) => {
                let durable = self.is_durable();
                if !self.outgoing.received(packet_identifier, durable) {
                    return Ok(());
                }
            }
            Some(Awaited::Nothing) => return Ok(()),
            Some(Awaited::Pubcomp) => {}
            Some(Awaited::Puback) => return Err(Violation::UnexpectedPacket.into()),
            None if pubrec.reason.is_failure() => return Ok(()),
            None => pubrel.reason = ReasonCode::PacketIdentifierNotFound,
        }
        self.encode(&Packet::Pubrel(pubrel), ctx);
        Ok(())
    }

    pub(crate) fn on_pubcomp(
        &mut self,
        pubcomp: &Acknowledgement,
        _ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        let packet_identifier = pubcomp.packet_identifier;
        let Some(entry) = self.outgoing.find(packet_identifier) else {
            return Ok(());
        };
        if entry.awaited != Awaited::Pubcomp {
            return Err(Violation::UnexpectedPacket.into());
        }
        self.outgoing.complete(packet_identifier);
        if entry.origin.is_none() {
            self.incoming.notes.unreleased(packet_identifier, false);
        }
        Ok(())
    }
}
