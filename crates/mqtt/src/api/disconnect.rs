//! DISCONNECT (MQTT 5 §3.14): the client's goodbye decides about its will and may change how long its
//! session is kept.

use super::connect::expiry_ms;
use crate::codec::Disconnect;
use crate::error::{End, ReasonCode, Violation};
use crate::session::{token, Kind, MqttSession};
use koine_broker::metadata::Command;
use koine_broker::session::{Context, Request};

impl MqttSession {
    pub(crate) fn on_disconnect(
        &mut self,
        disconnect: &Disconnect,
        ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        let changed = disconnect.session_expiry_interval().map(expiry_ms);
        if self.client.expiry_ms == 0 && changed.is_some_and(|expiry_ms| expiry_ms > 0) {
            return Err(Violation::SessionExpiry.into());
        }
        if let Some(expiry_ms) = changed {
            self.client.expiry_ms = expiry_ms;
        }
        self.save_packets(ctx);
        if let Some(session) = self.client.session {
            let command = Command::CloseSession {
                session,
                connection: ctx.connection.raw(),
                expiry_ms: changed,
                publish_will: disconnect.reason != ReasonCode::Success,
                at: ctx.now.wall.0,
            };
            ctx.out.request(Request::Propose { token: token(Kind::Ignored, 0), command });
        }
        self.close(ctx);
        Ok(())
    }
}
