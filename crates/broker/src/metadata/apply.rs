//! One command in, one outcome out.

use super::command::{Command, Outcome, Refusal};
use super::sessions::Opening;
use super::{Effects, Metadata};

impl Metadata {
    /// Applies one committed command. Deterministic; `effects` collects what the node has to carry out.
    pub fn apply(&mut self, command: Command, effects: &mut Effects) -> Result<Outcome, Refusal> {
        self.revision += 1;
        // Packet identifiers come with every exactly-once message, and nothing is derived from them.
        if !matches!(command, Command::NotePackets { .. }) {
            self.version += 1;
        }
        let changes_rights = matches!(
            command,
            Command::Access(_) | Command::CreateTopic { .. } | Command::DeleteTopic { .. }
        );
        self.rights_version += u64::from(changes_rights);
        match command {
            Command::NodeStarted { at } => {
                self.drop_transient(effects);
                self.disconnect_all(at, effects);
                // Whoever it says was connected is not there any more.
                effects.ended.clear();
                Ok(Outcome::Done)
            }
            Command::CreateTopic { namespace, name, partitions, settings, id } => {
                self.create_topic(namespace, name, partitions, settings, id)
            }
            Command::DeleteTopic { namespace, name } => self.delete_topic(namespace, name, effects),
            Command::AddPartitions { namespace, name, total } => {
                self.add_partitions(namespace, name, total)
            }
            Command::AlterTopic { namespace, name, settings } => {
                self.alter_topic(namespace, name, settings)
            }
            Command::DeclareQueue { namespace, name, spec, id } => {
                self.declare_queue(namespace, name, spec, id)
            }
            Command::DeleteQueue { namespace, name } => {
                Ok(self.delete_queue(namespace, name, effects))
            }
            Command::DeclareExchange { namespace, name, spec } => {
                self.declare_exchange(namespace, name, spec)
            }
            Command::DeleteExchange { namespace, name, if_unused } => {
                self.delete_exchange(namespace, name, if_unused)
            }
            Command::Bind { namespace, binding } => self.bind(namespace, binding),
            Command::Unbind { namespace, binding } => self.unbind(namespace, binding),
            Command::AllocateProducerId => {
                let id = self.durable.next_producer_id;
                self.durable.next_producer_id += 1;
                Ok(Outcome::ProducerId(id))
            }
            Command::ReleaseConnection { connection, at } => {
                self.release_connection(connection, effects);
                self.break_session(connection, at, effects);
                Ok(Outcome::Done)
            }
            Command::Access(command) => {
                let takes_away = command.takes_away();
                let existed = self.access.apply(*command, &self.limits.access)?;
                Ok(if takes_away { Outcome::Deleted { existed } } else { Outcome::Done })
            }
            // Retained messages are kept beside the metadata, on the shard of group 0 alone.
            Command::Retain { .. } => Ok(Outcome::Done),
            session => self.apply_session(session, effects),
        }
    }

    fn apply_session(
        &mut self,
        command: Command,
        effects: &mut Effects,
    ) -> Result<Outcome, Refusal> {
        match command {
            Command::OpenSession {
                namespace,
                client_id,
                connection,
                clean_start,
                expiry_ms,
                will,
                user,
                at,
            } => {
                // A will of the session that is taken over is due now.
                self.expire_sessions(at, effects);
                let opening = Opening {
                    namespace,
                    client_id,
                    connection,
                    clean_start,
                    expiry_ms,
                    will,
                    user,
                };
                self.open_session(opening, effects)
            }
            Command::CloseSession { session, connection, expiry_ms, publish_will, at } => {
                let outcome = self.close_session(session, connection, expiry_ms, publish_will, at);
                self.expire_sessions(at, effects);
                Ok(outcome)
            }
            Command::DeleteSession { session, at: _ } => {
                Ok(Outcome::Deleted { existed: self.remove_session(session, effects) })
            }
            Command::Subscribe { session, filters } => self.subscribe(session, filters),
            Command::Unsubscribe { session, filters } => {
                let existed = self.unsubscribe(session, &filters, effects);
                existed.map(|existed| Outcome::Unsubscribed { existed }).ok_or(Refusal::NotFound)
            }
            Command::NotePackets { session, connection, noted, released, unreleased } => {
                self.release_packets(session, &released, &unreleased)?;
                self.note_packets(session, connection, &noted)
            }
            Command::WillPublished { session } => {
                self.will_published(session);
                Ok(Outcome::Done)
            }
            Command::ExpireSessions { at } => {
                self.expire_sessions(at, effects);
                Ok(Outcome::Done)
            }
            other => unreachable!("not a session command: {other:?}"),
        }
    }

    fn break_session(&mut self, connection: u64, at: i64, effects: &mut Effects) {
        let found = self.durable.sessions.iter().find(|(_, s)| s.connection == Some(connection));
        if let Some(id) = found.map(|(id, _)| *id) {
            self.close_session(id, connection, None, true, at);
            self.expire_sessions(at, effects);
        }
    }
}
