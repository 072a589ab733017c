//! One file per request, named as in the specification. A handler checks what the client sent, asks
//! the engine, and answers; it knows neither sockets nor other connections.

mod acls;
pub mod alter_configs;
pub mod alter_user_scram_credentials;
pub mod api_versions;
pub mod create_acls;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_topic_partitions;
pub mod describe_user_scram_credentials;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod sync_group;

use crate::codec::{header, ApiKey, Malformed};
use crate::framing::Frame;
use crate::operation::{Env, Started};
use crate::reply::Reply;

/// Starts any request but Produce, which the session keeps in a queue of its own.
pub(crate) fn start(frame: &Frame, env: &mut Env<'_, '_>) -> Result<Started, Malformed> {
    use crate::codec::{self, generated as message};
    let reply = Reply::to(frame.api.key, frame.head);
    let v = frame.head.api_version;
    if frame.api.key == ApiKey::ApiVersions && !frame.api.serves(v) {
        return Ok(api_versions::refuse(reply, env));
    }
    let (header, mut reader) = header::decode_request(&frame.bytes, frame.api)?;
    let r = &mut reader;
    macro_rules! serve {
        ($module:ident) => {
            $module::start(message::$module::Request::decode(r, v)?, reply, env)
        };
    }
    let started = match frame.api.key {
        ApiKey::Produce => unreachable!("the session starts Produce itself"),
        ApiKey::Fetch => fetch::start(&codec::fetch::Request::decode(r, v)?, reply, env),
        ApiKey::JoinGroup => {
            let client_id = header.client_id.unwrap_or_default();
            join_group::start(message::join_group::Request::decode(r, v)?, client_id, reply, env)
        }
        ApiKey::ListOffsets => serve!(list_offsets),
        ApiKey::Metadata => serve!(metadata),
        ApiKey::OffsetCommit => serve!(offset_commit),
        ApiKey::OffsetFetch => serve!(offset_fetch),
        ApiKey::FindCoordinator => serve!(find_coordinator),
        ApiKey::Heartbeat => serve!(heartbeat),
        ApiKey::LeaveGroup => serve!(leave_group),
        ApiKey::SyncGroup => serve!(sync_group),
        ApiKey::DescribeGroups => serve!(describe_groups),
        ApiKey::ListGroups => serve!(list_groups),
        ApiKey::SaslHandshake => serve!(sasl_handshake),
        ApiKey::ApiVersions => serve!(api_versions),
        ApiKey::CreateTopics => serve!(create_topics),
        ApiKey::DeleteTopics => serve!(delete_topics),
        ApiKey::DeleteRecords => serve!(delete_records),
        ApiKey::InitProducerId => serve!(init_producer_id),
        ApiKey::OffsetForLeaderEpoch => serve!(offset_for_leader_epoch),
        ApiKey::DescribeAcls => serve!(describe_acls),
        ApiKey::CreateAcls => serve!(create_acls),
        ApiKey::DeleteAcls => serve!(delete_acls),
        ApiKey::DescribeConfigs => serve!(describe_configs),
        ApiKey::AlterConfigs => serve!(alter_configs),
        ApiKey::SaslAuthenticate => serve!(sasl_authenticate),
        ApiKey::CreatePartitions => serve!(create_partitions),
        ApiKey::DeleteGroups => serve!(delete_groups),
        ApiKey::IncrementalAlterConfigs => serve!(incremental_alter_configs),
        ApiKey::OffsetDelete => serve!(offset_delete),
        ApiKey::DescribeUserScramCredentials => serve!(describe_user_scram_credentials),
        ApiKey::AlterUserScramCredentials => serve!(alter_user_scram_credentials),
        ApiKey::DescribeCluster => serve!(describe_cluster),
        ApiKey::DescribeTopicPartitions => serve!(describe_topic_partitions),
    };
    Ok(started)
}
