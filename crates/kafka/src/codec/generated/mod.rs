//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.

use super::Api;
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
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod sync_group;

/// The requests that are advertised, in the order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    SaslHandshake = 17,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    DescribeAcls = 29,
    CreateAcls = 30,
    DeleteAcls = 31,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    SaslAuthenticate = 36,
    CreatePartitions = 37,
    DeleteGroups = 42,
    IncrementalAlterConfigs = 44,
    OffsetDelete = 47,
    DescribeUserScramCredentials = 50,
    AlterUserScramCredentials = 51,
    DescribeCluster = 60,
    DescribeTopicPartitions = 75,
}

/// One entry per [`ApiKey`], in the same order.
pub const APIS: &[Api] = &[
    Api {
        key: ApiKey::Produce,
        name: "Produce",
        version_min: 0,
        version_max: 13,
        flexible_from: 9,
    },
    Api { key: ApiKey::Fetch, name: "Fetch", version_min: 4, version_max: 18, flexible_from: 12 },
    Api {
        key: ApiKey::ListOffsets,
        name: "ListOffsets",
        version_min: 0,
        version_max: 11,
        flexible_from: 6,
    },
    Api {
        key: ApiKey::Metadata,
        name: "Metadata",
        version_min: 0,
        version_max: 13,
        flexible_from: 9,
    },
    Api {
        key: ApiKey::OffsetCommit,
        name: "OffsetCommit",
        version_min: 0,
        version_max: 10,
        flexible_from: 8,
    },
    Api {
        key: ApiKey::OffsetFetch,
        name: "OffsetFetch",
        version_min: 0,
        version_max: 10,
        flexible_from: 6,
    },
    Api {
        key: ApiKey::FindCoordinator,
        name: "FindCoordinator",
        version_min: 0,
        version_max: 6,
        flexible_from: 3,
    },
    Api {
        key: ApiKey::JoinGroup,
        name: "JoinGroup",
        version_min: 0,
        version_max: 9,
        flexible_from: 6,
    },
    Api {
        key: ApiKey::Heartbeat,
        name: "Heartbeat",
        version_min: 0,
        version_max: 4,
        flexible_from: 4,
    },
    Api {
        key: ApiKey::LeaveGroup,
        name: "LeaveGroup",
        version_min: 0,
        version_max: 5,
        flexible_from: 4,
    },
    Api {
        key: ApiKey::SyncGroup,
        name: "SyncGroup",
        version_min: 0,
        version_max: 5,
        flexible_from: 4,
    },
    Api {
        key: ApiKey::DescribeGroups,
        name: "DescribeGroups",
        version_min: 0,
        version_max: 6,
        flexible_from: 5,
    },
    Api {
        key: ApiKey::ListGroups,
        name: "ListGroups",
        version_min: 0,
        version_max: 5,
        flexible_from: 3,
    },
    Api {
        key: ApiKey::SaslHandshake,
        name: "SaslHandshake",
        version_min: 0,
        version_max: 1,
        flexible_from: 32767,
    },
    Api {
        key: ApiKey::ApiVersions,
        name: "ApiVersions",
        version_min: 0,
        version_max: 4,
        flexible_from: 3,
    },
    Api {
        key: ApiKey::CreateTopics,
        name: "CreateTopics",
        version_min: 0,
        version_max: 7,
        flexible_from: 5,
    },
    Api {
        key: ApiKey::DeleteTopics,
        name: "DeleteTopics",
        version_min: 0,
        version_max: 6,
        flexible_from: 4,
    },
    Api {
        key: ApiKey::DeleteRecords,
        name: "DeleteRecords",
        version_min: 0,
        version_max: 2,
        flexible_from: 2,
    },
    Api {
        key: ApiKey::InitProducerId,
        name: "InitProducerId",
        version_min: 0,
        version_max: 5,
        flexible_from: 2,
    },
    Api {
        key: ApiKey::OffsetForLeaderEpoch,
        name: "OffsetForLeaderEpoch",
        version_min: 0,
        version_max: 4,
        flexible_from: 4,
    },
    Api {
        key: ApiKey::DescribeAcls,
        name: "DescribeAcls",
        version_min: 1,
        version_max: 3,
        flexible_from: 2,
    },
    Api {
        key: ApiKey::CreateAcls,
        name: "CreateAcls",
        version_min: 1,
        version_max: 3,
        flexible_from: 2,
    },
    Api {
        key: ApiKey::DeleteAcls,
        name: "DeleteAcls",
        version_min: 1,
        version_max: 3,
        flexible_from: 2,
    },
    Api {
        key: ApiKey::DescribeConfigs,
        name: "DescribeConfigs",
        version_min: 0,
        version_max: 4,
        flexible_from: 4,
    },
    Api {
        key: ApiKey::AlterConfigs,
        name: "AlterConfigs",
        version_min: 0,
        version_max: 2,
        flexible_from: 2,
    },
    Api {
        key: ApiKey::SaslAuthenticate,
        name: "SaslAuthenticate",
        version_min: 0,
        version_max: 2,
        flexible_from: 2,
    },
    Api {
        key: ApiKey::CreatePartitions,
        name: "CreatePartitions",
        version_min: 0,
        version_max: 3,
        flexible_from: 2,
    },
    Api {
        key: ApiKey::DeleteGroups,
        name: "DeleteGroups",
        version_min: 0,
        version_max: 2,
        flexible_from: 2,
    },
    Api {
        key: ApiKey::IncrementalAlterConfigs,
        name: "IncrementalAlterConfigs",
        version_min: 0,
        version_max: 1,
        flexible_from: 1,
    },
    Api {
        key: ApiKey::OffsetDelete,
        name: "OffsetDelete",
        version_min: 0,
        version_max: 0,
        flexible_from: 32767,
    },
    Api {
        key: ApiKey::DescribeUserScramCredentials,
        name: "DescribeUserScramCredentials",
        version_min: 0,
        version_max: 0,
        flexible_from: 0,
    },
    Api {
        key: ApiKey::AlterUserScramCredentials,
        name: "AlterUserScramCredentials",
        version_min: 0,
        version_max: 0,
        flexible_from: 0,
    },
    Api {
        key: ApiKey::DescribeCluster,
        name: "DescribeCluster",
        version_min: 0,
        version_max: 2,
        flexible_from: 0,
    },
    Api {
        key: ApiKey::DescribeTopicPartitions,
        name: "DescribeTopicPartitions",
        version_min: 0,
        version_max: 0,
        flexible_from: 0,
    },
];

/// Both directions of one generated message.
#[cfg(test)]
pub(crate) struct Codec {
    pub key: ApiKey,
    pub request: bool,
    /// Writes a random message.
    pub sample: fn(&mut koine_base::rng::Rng, &mut super::Writer<'_>, i16),
    /// Decodes a frame and encodes it again.
    pub reencode: fn(&bytes::Bytes, i16) -> Result<bytes::BytesMut, super::Malformed>,
}

#[cfg(test)]
pub(crate) const CODECS: &[Codec] = &[
    Codec {
        key: ApiKey::ListOffsets,
        request: true,
        sample: |rng, w, v| list_offsets::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| list_offsets::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::ListOffsets,
        request: false,
        sample: |rng, w, v| list_offsets::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| list_offsets::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::Metadata,
        request: true,
        sample: |rng, w, v| metadata::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| metadata::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::Metadata,
        request: false,
        sample: |rng, w, v| metadata::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| metadata::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::OffsetCommit,
        request: true,
        sample: |rng, w, v| offset_commit::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| offset_commit::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::OffsetCommit,
        request: false,
        sample: |rng, w, v| offset_commit::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| offset_commit::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::OffsetFetch,
        request: true,
        sample: |rng, w, v| offset_fetch::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| offset_fetch::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::OffsetFetch,
        request: false,
        sample: |rng, w, v| offset_fetch::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| offset_fetch::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::FindCoordinator,
        request: true,
        sample: |rng, w, v| find_coordinator::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| find_coordinator::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::FindCoordinator,
        request: false,
        sample: |rng, w, v| find_coordinator::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| find_coordinator::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::JoinGroup,
        request: true,
        sample: |rng, w, v| join_group::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| join_group::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::JoinGroup,
        request: false,
        sample: |rng, w, v| join_group::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| join_group::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::Heartbeat,
        request: true,
        sample: |rng, w, v| heartbeat::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| heartbeat::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::Heartbeat,
        request: false,
        sample: |rng, w, v| heartbeat::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| heartbeat::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::LeaveGroup,
        request: true,
        sample: |rng, w, v| leave_group::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| leave_group::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::LeaveGroup,
        request: false,
        sample: |rng, w, v| leave_group::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| leave_group::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::SyncGroup,
        request: true,
        sample: |rng, w, v| sync_group::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| sync_group::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::SyncGroup,
        request: false,
        sample: |rng, w, v| sync_group::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| sync_group::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeGroups,
        request: true,
        sample: |rng, w, v| describe_groups::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_groups::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeGroups,
        request: false,
        sample: |rng, w, v| describe_groups::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_groups::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::ListGroups,
        request: true,
        sample: |rng, w, v| list_groups::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| list_groups::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::ListGroups,
        request: false,
        sample: |rng, w, v| list_groups::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| list_groups::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::SaslHandshake,
        request: true,
        sample: |rng, w, v| sasl_handshake::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| sasl_handshake::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::SaslHandshake,
        request: false,
        sample: |rng, w, v| sasl_handshake::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| sasl_handshake::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::ApiVersions,
        request: true,
        sample: |rng, w, v| api_versions::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| api_versions::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::ApiVersions,
        request: false,
        sample: |rng, w, v| api_versions::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| api_versions::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::CreateTopics,
        request: true,
        sample: |rng, w, v| create_topics::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| create_topics::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::CreateTopics,
        request: false,
        sample: |rng, w, v| create_topics::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| create_topics::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DeleteTopics,
        request: true,
        sample: |rng, w, v| delete_topics::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| delete_topics::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DeleteTopics,
        request: false,
        sample: |rng, w, v| delete_topics::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| delete_topics::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DeleteRecords,
        request: true,
        sample: |rng, w, v| delete_records::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| delete_records::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DeleteRecords,
        request: false,
        sample: |rng, w, v| delete_records::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| delete_records::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::InitProducerId,
        request: true,
        sample: |rng, w, v| init_producer_id::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| init_producer_id::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::InitProducerId,
        request: false,
        sample: |rng, w, v| init_producer_id::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| init_producer_id::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::OffsetForLeaderEpoch,
        request: true,
        sample: |rng, w, v| offset_for_leader_epoch::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| offset_for_leader_epoch::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::OffsetForLeaderEpoch,
        request: false,
        sample: |rng, w, v| offset_for_leader_epoch::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| offset_for_leader_epoch::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeAcls,
        request: true,
        sample: |rng, w, v| describe_acls::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_acls::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeAcls,
        request: false,
        sample: |rng, w, v| describe_acls::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_acls::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::CreateAcls,
        request: true,
        sample: |rng, w, v| create_acls::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| create_acls::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::CreateAcls,
        request: false,
        sample: |rng, w, v| create_acls::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| create_acls::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DeleteAcls,
        request: true,
        sample: |rng, w, v| delete_acls::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| delete_acls::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DeleteAcls,
        request: false,
        sample: |rng, w, v| delete_acls::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| delete_acls::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeConfigs,
        request: true,
        sample: |rng, w, v| describe_configs::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_configs::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeConfigs,
        request: false,
        sample: |rng, w, v| describe_configs::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_configs::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::AlterConfigs,
        request: true,
        sample: |rng, w, v| alter_configs::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| alter_configs::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::AlterConfigs,
        request: false,
        sample: |rng, w, v| alter_configs::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| alter_configs::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::SaslAuthenticate,
        request: true,
        sample: |rng, w, v| sasl_authenticate::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| sasl_authenticate::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::SaslAuthenticate,
        request: false,
        sample: |rng, w, v| sasl_authenticate::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| sasl_authenticate::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::CreatePartitions,
        request: true,
        sample: |rng, w, v| create_partitions::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| create_partitions::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::CreatePartitions,
        request: false,
        sample: |rng, w, v| create_partitions::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| create_partitions::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DeleteGroups,
        request: true,
        sample: |rng, w, v| delete_groups::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| delete_groups::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DeleteGroups,
        request: false,
        sample: |rng, w, v| delete_groups::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| delete_groups::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::IncrementalAlterConfigs,
        request: true,
        sample: |rng, w, v| incremental_alter_configs::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| incremental_alter_configs::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::IncrementalAlterConfigs,
        request: false,
        sample: |rng, w, v| incremental_alter_configs::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| incremental_alter_configs::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::OffsetDelete,
        request: true,
        sample: |rng, w, v| offset_delete::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| offset_delete::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::OffsetDelete,
        request: false,
        sample: |rng, w, v| offset_delete::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| offset_delete::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeUserScramCredentials,
        request: true,
        sample: |rng, w, v| describe_user_scram_credentials::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_user_scram_credentials::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeUserScramCredentials,
        request: false,
        sample: |rng, w, v| describe_user_scram_credentials::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_user_scram_credentials::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::AlterUserScramCredentials,
        request: true,
        sample: |rng, w, v| alter_user_scram_credentials::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| alter_user_scram_credentials::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::AlterUserScramCredentials,
        request: false,
        sample: |rng, w, v| alter_user_scram_credentials::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| alter_user_scram_credentials::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeCluster,
        request: true,
        sample: |rng, w, v| describe_cluster::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_cluster::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeCluster,
        request: false,
        sample: |rng, w, v| describe_cluster::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_cluster::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeTopicPartitions,
        request: true,
        sample: |rng, w, v| describe_topic_partitions::Request::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_topic_partitions::Request::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
    Codec {
        key: ApiKey::DescribeTopicPartitions,
        request: false,
        sample: |rng, w, v| describe_topic_partitions::Response::sample(rng, v).encode(w, v),
        reencode: |frame, v| {
            super::tests::reencode(
                frame,
                |r| describe_topic_partitions::Response::decode(r, v),
                |m, w| m.encode(w, v),
            )
        },
    },
];
