//! Every method of AMQP 0-9-1 with RabbitMQ's extensions, as one table in the order of the
//! specification. Both directions are decoded and encoded: clients' methods for the session, the
//! broker's for tests and tools.

use super::error::Malformed;
use super::table::Table;
use super::wire::{Field, LongString, Reader, SecretString, ShortString, Writer};
use bytes::{Bytes, BytesMut};

/// A class and method id in the specification's order.
pub type MethodId = (u16, u16);

macro_rules! methods {
    ($( $name:ident = $class:literal, $id:literal { $( $field:ident: $type:ty ),* $(,)? } )*) => {
        $(
            #[derive(Clone, Debug, Default, PartialEq, Eq)]
            pub struct $name {
                $( pub $field: $type, )*
            }

            impl $name {
                pub const ID: MethodId = ($class, $id);

                fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                    let _ = &reader;
                    Ok($name { $( $field: Field::read(reader)?, )* })
                }

                fn write(&self, writer: &mut Writer<'_>) {
                    let _ = &writer;
                    $( self.$field.write(writer); )*
                }
            }

            impl From<$name> for Method {
                fn from(method: $name) -> Method {
                    Method::$name(method)
                }
            }
        )*

        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Method {
            $( $name($name), )*
        }

        impl Method {
            pub fn id(&self) -> MethodId {
                match self {
                    $( Method::$name(_) => $name::ID, )*
                }
            }

            fn read(id: MethodId, reader: &mut Reader<'_>) -> Result<Method, Malformed> {
                match id {
                    $( $name::ID => $name::read(reader).map(Method::$name), )*
                    (class_id, method_id) => Err(Malformed::UnknownMethod { class_id, method_id }),
                }
            }

            fn write(&self, writer: &mut Writer<'_>) {
                match self {
                    $( Method::$name(method) => method.write(writer), )*
                }
            }

            /// `class.method` of an id, as error texts and logs name it.
            pub fn name(&self) -> &'static str {
                match self {
                    $( Method::$name(_) => stringify!($name), )*
                }
            }

            #[cfg(test)]
            pub(crate) fn every(rng: &mut koine_base::rng::Rng) -> Vec<Method> {
                vec![$( Method::$name($name { $( $field: tests::Sample::sample(rng), )* }), )*]
            }
        }
    };
}

methods! {
    ConnectionStart = 10, 10 {
        version_major: u8,
        version_minor: u8,
        server_properties: Table,
        mechanisms: LongString,
        locales: LongString,
    }
    ConnectionStartOk = 10, 11 {
        client_properties: Table,
        mechanism: ShortString,
        response: SecretString,
        locale: ShortString,
    }
    ConnectionSecure = 10, 20 { challenge: LongString }
    ConnectionSecureOk = 10, 21 { response: SecretString }
    ConnectionTune = 10, 30 { channel_max: u16, frame_max: u32, heartbeat: u16 }
    ConnectionTuneOk = 10, 31 { channel_max: u16, frame_max: u32, heartbeat: u16 }
    ConnectionOpen = 10, 40 { virtual_host: ShortString, capabilities: ShortString, insist: bool }
    ConnectionOpenOk = 10, 41 { known_hosts: ShortString }
    ConnectionClose = 10, 50 {
        reply_code: u16,
        reply_text: ShortString,
        class_id: u16,
        method_id: u16,
    }
    ConnectionCloseOk = 10, 51 {}
    ConnectionBlocked = 10, 60 { reason: ShortString }
    ConnectionUnblocked = 10, 61 {}
    ConnectionUpdateSecret = 10, 70 { new_secret: SecretString, reason: ShortString }
    ConnectionUpdateSecretOk = 10, 71 {}

    ChannelOpen = 20, 10 { out_of_band: ShortString }
    ChannelOpenOk = 20, 11 { channel_id: LongString }
    ChannelFlow = 20, 20 { active: bool }
    ChannelFlowOk = 20, 21 { active: bool }
    ChannelClose = 20, 40 {
        reply_code: u16,
        reply_text: ShortString,
        class_id: u16,
        method_id: u16,
    }
    ChannelCloseOk = 20, 41 {}

    AccessRequest = 30, 10 {
        realm: ShortString,
        exclusive: bool,
        passive: bool,
        active: bool,
        write: bool,
        read: bool,
    }
    AccessRequestOk = 30, 11 { ticket: u16 }

    ExchangeDeclare = 40, 10 {
        ticket: u16,
        exchange: ShortString,
        kind: ShortString,
        passive: bool,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        no_wait: bool,
        arguments: Table,
    }
    ExchangeDeclareOk = 40, 11 {}
    ExchangeDelete = 40, 20 { ticket: u16, exchange: ShortString, if_unused: bool, no_wait: bool }
    ExchangeDeleteOk = 40, 21 {}
    ExchangeBind = 40, 30 {
        ticket: u16,
        destination: ShortString,
        source: ShortString,
        routing_key: ShortString,
        no_wait: bool,
        arguments: Table,
    }
    ExchangeBindOk = 40, 31 {}
    ExchangeUnbind = 40, 40 {
        ticket: u16,
        destination: ShortString,
        source: ShortString,
        routing_key: ShortString,
        no_wait: bool,
        arguments: Table,
    }
    ExchangeUnbindOk = 40, 51 {}

    QueueDeclare = 50, 10 {
        ticket: u16,
        queue: ShortString,
        passive: bool,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        no_wait: bool,
        arguments: Table,
    }
    QueueDeclareOk = 50, 11 { queue: ShortString, message_count: u32, consumer_count: u32 }
    QueueBind = 50, 20 {
        ticket: u16,
        queue: ShortString,
        exchange: ShortString,
        routing_key: ShortString,
        no_wait: bool,
        arguments: Table,
    }
    QueueBindOk = 50, 21 {}
    QueuePurge = 50, 30 { ticket: u16, queue: ShortString, no_wait: bool }
    QueuePurgeOk = 50, 31 { message_count: u32 }
    QueueDelete = 50, 40 {
        ticket: u16,
        queue: ShortString,
        if_unused: bool,
        if_empty: bool,
        no_wait: bool,
    }
    QueueDeleteOk = 50, 41 { message_count: u32 }
    QueueUnbind = 50, 50 {
        ticket: u16,
        queue: ShortString,
        exchange: ShortString,
        routing_key: ShortString,
        arguments: Table,
    }
    QueueUnbindOk = 50, 51 {}

    BasicQos = 60, 10 { prefetch_size: u32, prefetch_count: u16, global: bool }
    BasicQosOk = 60, 11 {}
    BasicConsume = 60, 20 {
        ticket: u16,
        queue: ShortString,
        consumer_tag: ShortString,
        no_local: bool,
        no_ack: bool,
        exclusive: bool,
        no_wait: bool,
        arguments: Table,
    }
    BasicConsumeOk = 60, 21 { consumer_tag: ShortString }
    BasicCancel = 60, 30 { consumer_tag: ShortString, no_wait: bool }
    BasicCancelOk = 60, 31 { consumer_tag: ShortString }
    BasicPublish = 60, 40 {
        ticket: u16,
        exchange: ShortString,
        routing_key: ShortString,
        mandatory: bool,
        immediate: bool,
    }
    BasicReturn = 60, 50 {
        reply_code: u16,
        reply_text: ShortString,
        exchange: ShortString,
        routing_key: ShortString,
    }
    BasicDeliver = 60, 60 {
        consumer_tag: ShortString,
        delivery_tag: u64,
        redelivered: bool,
        exchange: ShortString,
        routing_key: ShortString,
    }
    BasicGet = 60, 70 { ticket: u16, queue: ShortString, no_ack: bool }
    BasicGetOk = 60, 71 {
        delivery_tag: u64,
        redelivered: bool,
        exchange: ShortString,
        routing_key: ShortString,
        message_count: u32,
    }
    BasicGetEmpty = 60, 72 { cluster_id: ShortString }
    BasicAck = 60, 80 { delivery_tag: u64, multiple: bool }
    BasicReject = 60, 90 { delivery_tag: u64, requeue: bool }
    BasicRecoverAsync = 60, 100 { requeue: bool }
    BasicRecover = 60, 110 { requeue: bool }
    BasicRecoverOk = 60, 111 {}
    BasicNack = 60, 120 { delivery_tag: u64, multiple: bool, requeue: bool }

    ConfirmSelect = 85, 10 { no_wait: bool }
    ConfirmSelectOk = 85, 11 {}

    TxSelect = 90, 10 {}
    TxSelectOk = 90, 11 {}
    TxCommit = 90, 20 {}
    TxCommitOk = 90, 21 {}
    TxRollback = 90, 30 {}
    TxRollbackOk = 90, 31 {}
}

impl Method {
    /// Decodes a method frame's payload. On failure the id says which method it was, 0, 0 if not
    /// even that could be read.
    pub fn decode(payload: &Bytes) -> Result<Method, (MethodId, Malformed)> {
        let mut reader = Reader::new(payload);
        let id = reader
            .short()
            .and_then(|class_id| Ok((class_id, reader.short()?)))
            .map_err(|malformed| ((0, 0), malformed))?;
        Method::read(id, &mut reader)
            .and_then(|method| reader.finish().map(|()| method))
            .map_err(|malformed| (id, malformed))
    }

    /// Appends a method frame's payload.
    pub fn encode(&self, out: &mut BytesMut) {
        let (class_id, method_id) = self.id();
        let mut writer = Writer::new(out);
        writer.short(class_id);
        writer.short(method_id);
        self.write(&mut writer);
    }

    /// Whether a content header must follow (0-9-1 section 4.2.6).
    pub fn has_content(&self) -> bool {
        matches!(
            self,
            Method::BasicPublish(_)
                | Method::BasicReturn(_)
                | Method::BasicDeliver(_)
                | Method::BasicGetOk(_)
        )
    }
}

#[cfg(test)]
mod tests;
