//! Every bound that a peer can run into, in one object. docs/user/limits.md lists them with reasons.

/// Limits of one node. Counts are per connection unless said otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest message body, in bytes. RabbitMQ's default is 16 MiB; Kafka's `max.message.bytes` may
    /// lower it per topic.
    pub message_bytes_max: usize,
    /// Largest Kafka request frame, in bytes (Kafka's `socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// Largest inflated size of one compressed batch.
    pub inflated_bytes_max: usize,
    /// Largest ratio of inflated to stored size.
    pub inflated_ratio_max: usize,
    /// Bytes of publishes of one connection that wait for their commit before reading stops.
    pub publish_bytes_in_flight_max: usize,
    /// Bytes waiting to be written to one peer above which volatile deliveries are dropped and input
    /// stops being read.
    pub output_bytes_max: usize,
    /// Bytes of the whole node that connections may hold: one half for what peers send until it is
    /// committed, the other for what waits to be sent to them.
    pub memory_bytes_max: usize,
    /// Milliseconds a peer may hold memory that the node needs, without taking its output or sending
    /// the rest of what it began.
    pub slow_peer_ms_max: u64,
    /// Requests of one Kafka connection that wait for their answer before reading stops.
    pub requests_in_flight_max: usize,
    /// Channels per AMQP connection.
    pub channel_max: u16,
    /// Largest AMQP frame.
    pub frame_bytes_max: u32,
    /// Consumers per AMQP channel.
    pub consumers_per_channel_max: usize,
    /// Deliveries waiting for settlement per channel when the client sets no prefetch.
    pub unacked_max: u32,
    /// Subscriptions per subject session.
    pub subscriptions_max: usize,
    /// Messages, and their bytes, that wait for one session; what comes on top is not stored for it.
    pub backlog_count_max: u64,
    pub backlog_bytes_max: u64,
    /// QoS 1 and 2 publishes an MQTT client may have open towards us (Receive Maximum).
    pub receive_maximum: u16,
    /// Topic aliases an MQTT client may set.
    pub topic_alias_max: u16,
    /// Longest keep-alive of an MQTT 5 client, in seconds; one that asks for more or for none is told
    /// this instead. The largest number is no limit.
    pub keep_alive_seconds_max: u16,
    /// Levels of a subject or filter.
    pub subject_levels_max: usize,
    /// Length of a name of a topic, queue, exchange, group or client id, in bytes.
    pub name_bytes_max: usize,
    /// Partitions per topic.
    pub partitions_max: u32,
    /// Topics, queues, exchanges and sessions on the node, each.
    pub objects_max: usize,
    /// Bindings on the node.
    pub bindings_max: usize,
    /// Retained messages on the node, and their bytes.
    pub retained_count_max: usize,
    pub retained_bytes_max: usize,
    /// How often topics are asked for what their retention lets go; a record is spared for at least as
    /// long after its append, whatever its timestamp (Kafka's `log.retention.check.interval.ms`).
    pub retention_check_ms: u64,
    /// Groups with committed offsets that one shard coordinates.
    pub offset_groups_max: usize,
    /// Partitions one consumer group may have offsets for.
    pub offsets_per_group_max: usize,
    /// How long a consumer group keeps its offsets without members (Kafka's
    /// `offsets.retention.minutes`).
    pub offsets_retention_ms: u64,
    /// Milliseconds a peer has from connecting to being logged in, the TLS handshake included.
    pub handshake_ms_max: u64,
    /// TLS handshakes under way on the node; further ones wait, in the order they came, and their time
    /// runs.
    pub tls_handshakes_max: usize,
    /// Bytes of one TLS connection that are encrypted and wait for its socket.
    pub tls_output_bytes_max: usize,
    /// Open connections of one remote address; of an IPv6 address, of its /64 network.
    pub connections_per_address_max: u32,
    /// New connections of one remote address in a second, and as many at once.
    pub connections_per_address_rate_max: u32,
    /// Remote addresses that are remembered for these two; above it those without connections are
    /// forgotten.
    pub addresses_max: usize,
    /// Bytes a peer may have sent and not been answered before it is logged in; Kafka's
    /// `sasl.server.max.receive.size` for its frames, AMQP's for the first frames of a connection.
    pub handshake_bytes_max: usize,
    /// Bytes of the whole node that peers may hold before they are logged in; the one that holds most is
    /// closed above it.
    pub handshake_memory_max: usize,
    /// Milliseconds before a login that failed is answered (RabbitMQ waits 3 s, Kafka 100 ms).
    pub login_delay_ms: u64,
    /// Milliseconds that a SASL login holds before the client must log in again over its connection;
    /// 0 is without end (Kafka's `connections.max.reauth.ms`).
    pub sasl_session_ms_max: u64,
    /// Logins of the node whose passwords wait to be checked; one more is refused.
    pub logins_waiting_max: usize,
    /// Users on the node.
    pub users_max: usize,
    /// Permissions, topic permissions and access control lists on the node, each.
    pub rules_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_bytes_max: 16 << 20,
            request_bytes_max: 100 << 20,
            inflated_bytes_max: 128 << 20,
            inflated_ratio_max: 1000,
            publish_bytes_in_flight_max: 8 << 20,
            output_bytes_max: 4 << 20,
            memory_bytes_max: 1 << 30,
            slow_peer_ms_max: 30_000,
            requests_in_flight_max: 1000,
            channel_max: 2047,
            frame_bytes_max: 131_072,
            consumers_per_channel_max: 1000,
            unacked_max: 8192,
            subscriptions_max: 10_000,
            backlog_count_max: 1_000_000,
            backlog_bytes_max: 1 << 30,
            receive_maximum: 1024,
            topic_alias_max: 64,
            keep_alive_seconds_max: u16::MAX,
            subject_levels_max: 128,
            name_bytes_max: 255,
            partitions_max: 10_000,
            objects_max: 1_000_000,
            bindings_max: 2_000_000,
            retained_count_max: 1_000_000,
            retained_bytes_max: 256 << 20,
            retention_check_ms: 300_000,
            offset_groups_max: 100_000,
            offsets_per_group_max: 100_000,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            handshake_ms_max: 10_000,
            tls_handshakes_max: 1000,
            tls_output_bytes_max: 64 << 10,
            connections_per_address_max: u32::MAX,
            connections_per_address_rate_max: u32::MAX,
            addresses_max: 65_536,
            handshake_bytes_max: 64 << 10,
            handshake_memory_max: 32 << 20,
            login_delay_ms: 500,
            sasl_session_ms_max: 0,
            logins_waiting_max: 1000,
            users_max: 100_000,
            rules_max: 100_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_limit_and_no_other() {
        let document = include_str!("../../../docs/user/limits.md");
        let listed =
            document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let listed: Vec<&str> = listed.collect();
        let printed = format!("{:?}", Limits::default());
        let fields = printed.trim_start_matches("Limits { ").trim_end_matches(" }").split(", ");
        let fields: Vec<&str> = fields.filter_map(|field| field.split(':').next()).collect();
        assert_eq!(listed, fields);
    }
}
