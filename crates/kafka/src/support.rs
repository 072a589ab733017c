//! What of Kafka is served, in one table; docs/user/kafka.md shows it and a test holds the two
//! against each other.

use crate::codec::Api;
use std::fmt::Write;

/// One line of the table: a request that clients may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    pub key: i16,
    pub name: &'static str,
    /// What differs from Kafka, or what a client gets instead.
    pub note: &'static str,
}

const fn line(key: i16, name: &'static str, note: &'static str) -> Support {
    Support { key, name, note }
}

const NOT_ADVERTISED: &str = "not advertised: clients report the request as unsupported";
const TRANSACTIONS: &str =
    "not advertised; a producer with a transactional id gets TRANSACTIONAL_ID_AUTHORIZATION_FAILED";

/// Every request of a client-facing listener of Apache Kafka 4.
pub const SUPPORT: &[Support] = &[
    line(0, "Produce", "0-2 are advertised for old librdkafka and refused with UNSUPPORTED_VERSION; transactional batches with INVALID_TXN_STATE"),
    line(1, "Fetch", "fetch sessions live as long as their connection; 0-3 (old message formats) are not served"),
    line(2, "ListOffsets", "nothing is tiered: -5 and -6 answer -1"),
    line(3, "Metadata", "creates missing topics"),
    line(8, "OffsetCommit", ""),
    line(9, "OffsetFetch", ""),
    line(10, "FindCoordinator", "groups only; transactional ids get TRANSACTIONAL_ID_AUTHORIZATION_FAILED, share groups INVALID_REQUEST"),
    line(11, "JoinGroup", ""),
    line(12, "Heartbeat", ""),
    line(13, "LeaveGroup", ""),
    line(14, "SyncGroup", ""),
    line(15, "DescribeGroups", ""),
    line(16, "ListGroups", "every group is of type classic"),
    line(17, "SaslHandshake", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; advertised once there are users, before that ILLEGAL_SASL_STATE"),
    line(18, "ApiVersions", "no features are finalized"),
    line(19, "CreateTopics", "replication factor 1; settings that are not honoured are refused with INVALID_CONFIG"),
    line(20, "DeleteTopics", "deletes queues as well"),
    line(21, "DeleteRecords", "on a queue: POLICY_VIOLATION"),
    line(22, "InitProducerId", "idempotent producers; a transactional id gets TRANSACTIONAL_ID_AUTHORIZATION_FAILED"),
    line(23, "OffsetForLeaderEpoch", ""),
    line(24, "AddPartitionsToTxn", TRANSACTIONS),
    line(25, "AddOffsetsToTxn", TRANSACTIONS),
    line(26, "EndTxn", TRANSACTIONS),
    line(28, "TxnOffsetCommit", TRANSACTIONS),
    line(29, "DescribeAcls", "advertised once there are users, before that SECURITY_DISABLED; rules on MQTT subjects are not shown"),
    line(30, "CreateAcls", "advertised once there are users, before that SECURITY_DISABLED; topics, groups, the cluster and transactional ids; principals are `User:name`, hosts addresses"),
    line(31, "DeleteAcls", "advertised once there are users, before that SECURITY_DISABLED"),
    line(32, "DescribeConfigs", "topics and this broker"),
    line(33, "AlterConfigs", "topics only, others get INVALID_REQUEST"),
    line(34, "AlterReplicaLogDirs", NOT_ADVERTISED),
    line(35, "DescribeLogDirs", NOT_ADVERTISED),
    line(36, "SaslAuthenticate", "as SaslHandshake; a login that fails is answered after half a second"),
    line(37, "CreatePartitions", "a queue keeps one partition: INVALID_PARTITIONS"),
    line(38, "CreateDelegationToken", NOT_ADVERTISED),
    line(39, "RenewDelegationToken", NOT_ADVERTISED),
    line(40, "ExpireDelegationToken", NOT_ADVERTISED),
    line(41, "DescribeDelegationToken", NOT_ADVERTISED),
    line(42, "DeleteGroups", ""),
    line(43, "ElectLeaders", NOT_ADVERTISED),
    line(44, "IncrementalAlterConfigs", "topics only, others get INVALID_REQUEST"),
    line(45, "AlterPartitionReassignments", NOT_ADVERTISED),
    line(46, "ListPartitionReassignments", NOT_ADVERTISED),
    line(47, "OffsetDelete", ""),
    line(48, "DescribeClientQuotas", NOT_ADVERTISED),
    line(49, "AlterClientQuotas", NOT_ADVERTISED),
    line(50, "DescribeUserScramCredentials", "advertised once there are users"),
    line(51, "AlterUserScramCredentials", "advertised once there are users, before that SECURITY_DISABLED: the first user is made with `koine users`; ends the user's connections"),
    line(55, "DescribeQuorum", NOT_ADVERTISED),
    line(57, "UpdateFeatures", NOT_ADVERTISED),
    line(60, "DescribeCluster", ""),
    line(61, "DescribeProducers", NOT_ADVERTISED),
    line(65, "DescribeTransactions", NOT_ADVERTISED),
    line(66, "ListTransactions", NOT_ADVERTISED),
    line(68, "ConsumerGroupHeartbeat", "not advertised: use `group.protocol=classic`"),
    line(69, "ConsumerGroupDescribe", NOT_ADVERTISED),
    line(71, "GetTelemetrySubscriptions", NOT_ADVERTISED),
    line(72, "PushTelemetry", NOT_ADVERTISED),
    line(74, "ListConfigResources", NOT_ADVERTISED),
    line(75, "DescribeTopicPartitions", ""),
    line(76, "ShareGroupHeartbeat", NOT_ADVERTISED),
    line(77, "ShareGroupDescribe", NOT_ADVERTISED),
    line(78, "ShareFetch", NOT_ADVERTISED),
    line(79, "ShareAcknowledge", NOT_ADVERTISED),
    line(88, "StreamsGroupHeartbeat", NOT_ADVERTISED),
    line(89, "StreamsGroupDescribe", NOT_ADVERTISED),
    line(90, "DescribeShareGroupOffsets", NOT_ADVERTISED),
    line(91, "AlterShareGroupOffsets", NOT_ADVERTISED),
    line(92, "DeleteShareGroupOffsets", NOT_ADVERTISED),
];

/// The table in Markdown.
pub fn support() -> String {
    let mut out =
        String::from("| key | request | versions | served | note |\n|---|---|---|---|---|\n");
    for line in SUPPORT {
        let (versions, served) = match Api::find(line.key) {
            Some(api) => (format!("{}-{}", api.version_min, api.version_max), "yes"),
            None => ("-".to_string(), "not yet"),
        };
        let _ = writeln!(
            out,
            "| {} | {} | {versions} | {served} | {} |",
            line.key, line.name, line.note
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::APIS;

    #[test]
    fn every_advertised_request_has_a_line() {
        assert!(SUPPORT.windows(2).all(|pair| pair[0].key < pair[1].key));
        for api in APIS {
            let line = SUPPORT.iter().find(|line| line.key == api.key as i16);
            assert_eq!(line.map(|line| line.name), Some(api.name));
        }
    }

    #[test]
    fn the_user_page_shows_this_table() {
        let page = include_str!("../../../docs/user/kafka.md");
        if std::env::var_os("KOINE_RECORD").is_some() {
            let head = page.split("| key |").next().unwrap_or(page);
            std::fs::write("../../docs/user/kafka.md", format!("{head}{}", support()))
                .expect("the page can be written");
            return;
        }
        assert!(page.contains(&support()), "docs/user/kafka.md must hold:\n{}", support());
    }
}
