//! Who may ask what: every request as every kind of user, and what happens to those who wait when a right
//! is taken away.

use super::*;
use crate::session::tests::{acls, fetch, groups, produce, sasl};
use koine_broker::access::{
    AccessCommand, Acl, AclKind, AclPattern, Effect, Operation, Pattern, Permissions, ADMINISTRATOR,
};
use koine_broker::membership::{GroupListing, GroupPhase};
use std::fmt::Write;

/// In the order of the columns.
const ROLES: [&str; 11] = [
    "nobody",
    "wrong password",
    "no permission",
    "read",
    "write",
    "configure",
    "all",
    "administrator",
    "all but denied",
    "all of other names",
    "deleted meanwhile",
];

pub fn permit(client: &mut Client, configure: &str, write: &str, read: &str) {
    let pattern = |text: &str| Pattern::new(text).expect("a sound pattern");
    client.engine.access(AccessCommand::SetPermissions {
        user: "alice".into(),
        namespace: NamespaceId(0),
        row: Permissions {
            configure: pattern(configure),
            write: pattern(write),
            read: pattern(read),
        },
    });
}

pub fn rule(effect: Effect, operation: Operation, kind: AclKind, name: &str) -> Acl {
    let pattern = AclPattern::Literal(name.into());
    Acl { user: "alice".into(), host: "*".into(), effect, operation, kind, pattern }
}

fn add(client: &mut Client, acl: Acl) {
    client.engine.access(AccessCommand::AddAcls { acls: vec![acl] });
}

/// A client in a role, before a topic `t`.
pub fn as_role(role: &str) -> Client {
    let mut client = sasl::secured();
    create_topic(&mut client, "t", 1);
    client.engine.groups = vec![GroupListing {
        group: "g".into(),
        protocol_type: "consumer".into(),
        phase: GroupPhase::Stable,
    }];
    match role {
        "read" => permit(&mut client, "", "", ".*"),
        "write" => permit(&mut client, "", ".*", ""),
        "configure" => permit(&mut client, ".*", "", ""),
        "all" | "deleted meanwhile" => permit(&mut client, ".*", ".*", ".*"),
        "administrator" => client.engine.access(AccessCommand::SetTags {
            name: "alice".into(),
            tags: [ADMINISTRATOR.to_owned()].into(),
        }),
        "all but denied" => {
            permit(&mut client, ".*", ".*", ".*");
            add(&mut client, rule(Effect::Deny, Operation::All, AclKind::Topic, "t"));
            add(&mut client, rule(Effect::Deny, Operation::All, AclKind::Group, "g"));
        }
        "all of other names" => permit(&mut client, "^other", "^other", "^other"),
        _ => {}
    }
    match role {
        "nobody" => {}
        "wrong password" => {
            sasl::login(&mut client, "PLAIN", "alice", "bob");
        }
        _ => {
            assert_eq!(sasl::login(&mut client, "PLAIN", "alice", "alice").error_code, 0);
        }
    }
    if role == "deleted meanwhile" {
        client.engine.access(AccessCommand::DeleteUser { name: "alice".into() });
        client.access_changed();
    }
    client
}

/// One request: what it is about, and how its answer is one letter. `T`, `G` and `C` stand for the
/// authorization errors of topics, groups and the cluster, `-` for something that is not shown.
struct Row {
    key: ApiKey,
    name: &'static str,
    ask: fn(&mut Client) -> char,
    expect: &'static str,
}

fn letter(code: i16) -> char {
    match code {
        29 => 'T',
        30 => 'G',
        31 => 'C',
        _ => '.',
    }
}

fn shown(is_shown: bool) -> char {
    match is_shown {
        true => '.',
        false => '-',
    }
}

fn topics_of(client: &mut Client, names: Option<&[&str]>) -> metadata::Response {
    let wanted =
        |name: &&str| metadata::TopicWanted { topic_id: [0; 16], name: Some((*name).to_owned()) };
    let request = metadata::Request {
        topics: names.map(|names| names.iter().map(wanted).collect()),
        allow_auto_topic_creation: true,
        include_topic_authorized_operations: true,
        include_cluster_authorized_operations: true,
    };
    call!(client, metadata, Metadata, 10, request)
}

fn describe_config(client: &mut Client, resource_type: i8, name: &str) -> char {
    let wanted = describe_configs::ResourceWanted {
        resource_type,
        resource_name: name.into(),
        configuration_keys: None,
    };
    let request = describe_configs::Request { resources: vec![wanted], ..Default::default() };
    let response = call!(client, describe_configs, DescribeConfigs, 4, request);
    letter(response.results[0].error_code)
}

fn alter_config(client: &mut Client, resource_type: i8, name: &str) -> char {
    let wanted = alter_configs::ResourceWanted {
        resource_type,
        resource_name: name.into(),
        configs: Vec::new(),
    };
    let request = alter_configs::Request { resources: vec![wanted], ..Default::default() };
    letter(call!(client, alter_configs, AlterConfigs, 2, request).responses[0].error_code)
}

fn incremental(client: &mut Client, resource_type: i8, name: &str) -> char {
    let wanted = incremental_alter_configs::ResourceWanted {
        resource_type,
        resource_name: name.into(),
        configs: Vec::new(),
    };
    let request =
        incremental_alter_configs::Request { resources: vec![wanted], ..Default::default() };
    let response = call!(client, incremental_alter_configs, IncrementalAlterConfigs, 1, request);
    letter(response.responses[0].error_code)
}

macro_rules! row {
    ($key:ident $name:literal $expect:literal, $ask:expr) => {
        Row { key: ApiKey::$key, name: $name, ask: $ask, expect: $expect }
    };
}

fn rows_of_topics() -> Vec<Row> {
    vec![
        row!(Produce "to t" "XXTT.T.TTTX", |client| {
            let records = batch(&["a"]);
            letter(produce::produce(client, 9, &produce::request("t", 0, &records)).error_code)
        }),
        row!(Produce "to what is not there" "XXTT.T.T.TX", |client| {
            let records = batch(&["a"]);
            letter(produce::produce(client, 9, &produce::request("none", 0, &records)).error_code)
        }),
        row!(Fetch "from t" "XXT.TT.TTTX", |client| {
            let mut request = fetch::request("t", vec![fetch::wanted(0, 0)]);
            request.max_wait_ms = 0;
            client.engine.paused = false;
            let stream = client.engine.metadata.topic(NamespaceId(0), "t").expect("made");
            let stream = stream.stream(0).expect("it has one partition");
            client.engine.append(stream, &batch(&["a"]));
            let response = fetch::fetch(client, 12, &request);
            let partition = &response.topics[0].partitions[0];
            assert!(partition.error_code == 0 || partition.records.is_empty());
            letter(partition.error_code)
        }),
        row!(Fetch "from t by id" "XXT.TT.TTTX", |client| {
            let mut request = fetch::request("", vec![fetch::wanted(0, 9)]);
            request.topics[0].topic_id = topic_id(client, "t");
            letter(fetch::fetch(client, 13, &request).topics[0].partitions[0].error_code)
        }),
        row!(Fetch "what is not there" "XXT.TT.T.TX", |client| {
            let request = fetch::request("none", vec![fetch::wanted(0, 0)]);
            letter(fetch::fetch(client, 12, &request).topics[0].partitions[0].error_code)
        }),
        row!(ListOffsets "of t" "XXT....TTTX", |client| {
            let partition =
                list_offsets::PartitionWanted { timestamp: -1, ..Default::default() };
            let topic =
                list_offsets::TopicWanted { name: "t".into(), partitions: vec![partition] };
            let request = list_offsets::Request { topics: vec![topic], ..Default::default() };
            let response = call!(client, list_offsets, ListOffsets, 6, request);
            letter(response.topics[0].partitions[0].error_code)
        }),
    ]
}

fn rows_of_lists() -> Vec<Row> {
    vec![
        row!(Metadata "of t" "XXT....TTTX", |client| {
            letter(topics_of(client, Some(&["t"])).topics[0].error_code)
        }),
        row!(Metadata "of what is not there" "XXTTT..T.TX", |client| {
            letter(topics_of(client, Some(&["new"])).topics[0].error_code)
        }),
        row!(Metadata "of all" "XX-....---X", |client| {
            shown(!topics_of(client, None).topics.is_empty())
        }),
        row!(Metadata "what may be done with the cluster" "XX-----.--X", |client| {
            shown(topics_of(client, None).cluster_authorized_operations != 0)
        }),
        row!(DescribeTopicPartitions "of t" "XXT....TTTX", |client| {
            let topic = describe_topic_partitions::TopicWanted { name: "t".into() };
            let request = describe_topic_partitions::Request {
                topics: vec![topic],
                response_partition_limit: 10,
                ..Default::default()
            };
            let response =
                call!(client, describe_topic_partitions, DescribeTopicPartitions, 0, request);
            letter(response.topics[0].error_code)
        }),
        row!(DescribeTopicPartitions "of all" "XX-....---X", |client| {
            let request = describe_topic_partitions::Request {
                response_partition_limit: 10,
                ..Default::default()
            };
            let response =
                call!(client, describe_topic_partitions, DescribeTopicPartitions, 0, request);
            shown(!response.topics.is_empty())
        }),
    ]
}

fn rows_of_administration() -> Vec<Row> {
    vec![
        row!(CreateTopics "" "XXTTT....TX", |client| {
            let topic = create_topics::TopicWanted {
                name: "new".into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            };
            let request = create_topics::Request { topics: vec![topic], ..Default::default() };
            let response = call!(client, create_topics, CreateTopics, 5, request);
            letter(response.topics[0].error_code)
        }),
        row!(CreateTopics "and sees its settings" "XX---..-.-X", |client| {
            let topic = create_topics::TopicWanted {
                name: "new".into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            };
            let request = create_topics::Request { topics: vec![topic], ..Default::default() };
            let response = call!(client, create_topics, CreateTopics, 5, request);
            shown(response.topics[0].num_partitions == 1)
        }),
        row!(DeleteTopics "" "XXTTT..TTTX", |client| {
            let request =
                delete_topics::Request { topic_names: vec!["t".into()], ..Default::default() };
            let response = call!(client, delete_topics, DeleteTopics, 5, request);
            letter(response.responses[0].error_code)
        }),
        row!(DeleteTopics "by id, and learns its name" "XX-....---X", |client| {
            let topic_id = topic_id(client, "t");
            let topic = delete_topics::TopicWanted { name: None, topic_id };
            let request = delete_topics::Request { topics: vec![topic], ..Default::default() };
            let response = call!(client, delete_topics, DeleteTopics, 6, request);
            shown(response.responses[0].name.is_some())
        }),
        row!(DeleteRecords "" "XXTTT..TTTX", |client| {
            let partition = delete_records::PartitionWanted { partition_index: 0, offset: 0 };
            let topic =
                delete_records::TopicWanted { name: "t".into(), partitions: vec![partition] };
            let request = delete_records::Request { topics: vec![topic], ..Default::default() };
            let response = call!(client, delete_records, DeleteRecords, 2, request);
            letter(response.topics[0].partitions[0].error_code)
        }),
        row!(OffsetForLeaderEpoch "" "XXT.....TTX", |client| {
            let partition = offset_for_leader_epoch::PartitionWanted {
                current_leader_epoch: -1,
                ..Default::default()
            };
            let topic = offset_for_leader_epoch::TopicWanted {
                topic: "t".into(),
                partitions: vec![partition],
            };
            let request =
                offset_for_leader_epoch::Request { topics: vec![topic], ..Default::default() };
            let response =
                call!(client, offset_for_leader_epoch, OffsetForLeaderEpoch, 4, request);
            letter(response.topics[0].partitions[0].error_code)
        }),
    ]
}

fn rows_of_settings() -> Vec<Row> {
    vec![
        row!(CreatePartitions "" "XXTTT..TTTX", |client| {
            let topic = create_partitions::TopicWanted {
                name: "t".into(),
                count: 2,
                assignments: None,
            };
            let request =
                create_partitions::Request { topics: vec![topic], ..Default::default() };
            let response = call!(client, create_partitions, CreatePartitions, 3, request);
            letter(response.results[0].error_code)
        }),
        row!(DescribeConfigs "of t" "XXTTT..TTTX", |client| describe_config(client, 2, "t")),
        row!(DescribeConfigs "of the broker" "XXCCCCC.CCX", |client| {
            describe_config(client, 4, "1")
        }),
        row!(AlterConfigs "of t" "XXTTT..TTTX", |client| alter_config(client, 2, "t")),
        row!(AlterConfigs "of the broker" "XXCCCCC.CCX", |client| alter_config(client, 4, "1")),
        row!(IncrementalAlterConfigs "of t" "XXTTT..TTTX", |client| incremental(client, 2, "t")),
        row!(IncrementalAlterConfigs "of the broker" "XXCCCCC.CCX", |client| {
            incremental(client, 4, "1")
        }),
    ]
}

fn commit_of(name: &str) -> offset_commit::Request {
    let partition = offset_commit::PartitionOffset { committed_offset: 1, ..Default::default() };
    let topic = offset_commit::TopicOffsets {
        name: name.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    offset_commit::Request {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

fn rows_of_groups() -> Vec<Row> {
    vec![
        row!(OffsetCommit "" "XXG.GG.GGGX", |client| {
            let response = call!(client, offset_commit, OffsetCommit, 9, commit_of("t"));
            letter(response.topics[0].partitions[0].error_code)
        }),
        row!(OffsetFetch "" "XXG....GGGX", |client| {
            let request = offset_fetch::Request { group_id: "g".into(), ..Default::default() };
            letter(call!(client, offset_fetch, OffsetFetch, 7, request).error_code)
        }),
        row!(OffsetFetch "of several" "XXG....GGGX", |client| {
            let group = offset_fetch::GroupWanted { group_id: "g".into(), ..Default::default() };
            let request = offset_fetch::Request { groups: vec![group], ..Default::default() };
            letter(call!(client, offset_fetch, OffsetFetch, 9, request).groups[0].error_code)
        }),
        row!(FindCoordinator "" "XXG....GGGX", |client| {
            let request = find_coordinator::Request { key: "g".into(), ..Default::default() };
            letter(call!(client, find_coordinator, FindCoordinator, 3, request).error_code)
        }),
        row!(FindCoordinator "of several" "XXG....GGGX", |client| {
            let request = find_coordinator::Request {
                coordinator_keys: vec!["g".into()],
                ..Default::default()
            };
            let response = call!(client, find_coordinator, FindCoordinator, 4, request);
            letter(response.coordinators[0].error_code)
        }),
        row!(JoinGroup "" "XXG.GG.GGGX", |client| {
            letter(call!(client, join_group, JoinGroup, 9, groups::join(9)).error_code)
        }),
        row!(SyncGroup "" "XXG.GG.GGGX", |client| {
            let request = sync_group::Request { group_id: "g".into(), ..Default::default() };
            letter(call!(client, sync_group, SyncGroup, 5, request).error_code)
        }),
        row!(Heartbeat "" "XXG.GG.GGGX", |client| {
            let request = heartbeat::Request { group_id: "g".into(), ..Default::default() };
            letter(call!(client, heartbeat, Heartbeat, 4, request).error_code)
        }),
        row!(LeaveGroup "" "XXG.GG.GGGX", |client| {
            let request = leave_group::Request { group_id: "g".into(), ..Default::default() };
            letter(call!(client, leave_group, LeaveGroup, 5, request).error_code)
        }),
        row!(DescribeGroups "" "XXG....GGGX", |client| {
            let request =
                describe_groups::Request { groups: vec!["g".into()], ..Default::default() };
            let response = call!(client, describe_groups, DescribeGroups, 5, request);
            letter(response.groups[0].error_code)
        }),
        row!(ListGroups "" "XX-.....--X", |client| {
            let request = list_groups::Request::default();
            shown(!call!(client, list_groups, ListGroups, 5, request).groups.is_empty())
        }),
        row!(DeleteGroups "" "XXGGG..GGGX", |client| {
            let request = delete_groups::Request { groups_names: vec!["g".into()] };
            letter(call!(client, delete_groups, DeleteGroups, 2, request).results[0].error_code)
        }),
        row!(OffsetDelete "of the group" "XXGGG..GGGX", |client| {
            let request = offset_delete::Request { group_id: "g".into(), topics: Vec::new() };
            letter(call!(client, offset_delete, OffsetDelete, 0, request).error_code)
        }),
    ]
}

fn rows_of_the_cluster() -> Vec<Row> {
    vec![
        row!(InitProducerId "" "XXCC.C....X", |client| {
            let request = init_producer_id::Request::default();
            letter(call!(client, init_producer_id, InitProducerId, 4, request).error_code)
        }),
        row!(DescribeCluster "what may be done with it" "XX-----.--X", |client| {
            let request = describe_cluster::Request {
                include_cluster_authorized_operations: true,
                endpoint_type: 1,
                ..Default::default()
            };
            let response = call!(client, describe_cluster, DescribeCluster, 2, request);
            shown(response.cluster_authorized_operations != 0)
        }),
        row!(DescribeAcls "" "XXCCCCC.CCX", |client| {
            let response = call!(client, describe_acls, DescribeAcls, 3, acls::everything());
            letter(response.error_code)
        }),
        row!(CreateAcls "" "XXCCCCC.CCX", |client| {
            let creations = vec![acls::creation("t")];
            let request = create_acls::Request { creations };
            letter(call!(client, create_acls, CreateAcls, 3, request).results[0].error_code)
        }),
        row!(DeleteAcls "" "XXCCCCC.CCX", |client| {
            let filters = vec![acls::any()];
            let request = delete_acls::Request { filters };
            let response = call!(client, delete_acls, DeleteAcls, 3, request);
            letter(response.filter_results[0].error_code)
        }),
        row!(DescribeUserScramCredentials "" "XXCCCCC.CCX", |client| {
            let request = describe_user_scram_credentials::Request::default();
            let response = call!(
                client,
                describe_user_scram_credentials,
                DescribeUserScramCredentials,
                0,
                request
            );
            assert_eq!(response.results.is_empty(), response.error_code != 0);
            letter(response.error_code)
        }),
        row!(AlterUserScramCredentials "" "XXCCCCC.CCX", |client| {
            let before = format!("{:?}", client.engine.metadata.access().user("bob"));
            let code = acls::set_password(client, "bob", "other").error_code;
            let after = format!("{:?}", client.engine.metadata.access().user("bob"));
            assert_eq!(before == after, code != 0);
            letter(code)
        }),
        row!(ApiVersions "" ".X........X", |client| {
            let request = api_versions::Request::default();
            letter(call!(client, api_versions, ApiVersions, 0, request).error_code)
        }),
        row!(SaslHandshake "" ".X........X", |client| {
            let request = sasl_handshake::Request { mechanism: "PLAIN".into() };
            letter(call!(client, sasl_handshake, SaslHandshake, 1, request).error_code)
        }),
        row!(SaslAuthenticate "" ".X........X", |client| {
            let request = sasl_authenticate::Request::default();
            letter(call!(client, sasl_authenticate, SaslAuthenticate, 2, request).error_code)
        }),
    ]
}

/// `X`: the connection is closed, before the request or by it and without an answer.
fn cell(row: &Row, role: &str) -> char {
    let mut client = as_role(role);
    if client.closed {
        return 'X';
    }
    // A request without a body tells whether any is taken at all.
    let is_login =
        matches!(row.key, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
    if role == "nobody" && !is_login {
        client.queue(row.key, row.key.api().version_max, |_| {});
        client.run();
        return if client.closed && client.take_bytes().is_empty() { 'X' } else { '?' };
    }
    (row.ask)(&mut client)
}

#[test]
fn every_request_of_every_role() {
    let rows: Vec<Row> = [
        rows_of_topics(),
        rows_of_lists(),
        rows_of_administration(),
        rows_of_settings(),
        rows_of_groups(),
        rows_of_the_cluster(),
    ]
    .into_iter()
    .flatten()
    .collect();
    for api in APIS {
        assert!(rows.iter().any(|row| row.key == api.key), "{} is in no row", api.name);
    }
    let mut wrong = String::new();
    for row in &rows {
        assert_eq!(row.expect.len(), ROLES.len(), "{:?} {}", row.key, row.name);
        for (role, expect) in ROLES.iter().zip(row.expect.chars()) {
            let found = cell(row, role);
            if found != expect {
                let _ =
                    writeln!(wrong, "{:?} {} as {role}: {found}, not {expect}", row.key, row.name);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn what_may_be_done_is_told_as_bits() {
    let mut client = as_role("read");
    let topic = &topics_of(&mut client, Some(&["t"])).topics[0];
    assert_eq!(topic.topic_authorized_operations, 1 << 3 | 1 << 8);
    let mut client = as_role("configure");
    let topic = &topics_of(&mut client, Some(&["t"])).topics[0];
    let configure = [5, 6, 7, 8, 10, 11].map(|bit| 1 << bit).iter().sum::<i32>();
    assert_eq!(topic.topic_authorized_operations, configure);
    let mut client = as_role("administrator");
    let response = topics_of(&mut client, None);
    assert_eq!(response.cluster_authorized_operations, 0b1_1111_1010_0000);
}

#[test]
fn each_topic_of_a_request_has_its_own_verdict() {
    let mut client = as_role("all of other names");
    create_topic(&mut client, "other", 1);
    let response = topics_of(&mut client, Some(&["t", "other"]));
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [29, 0]);
    assert_eq!(response.topics[0].topic_id, [0; 16], "not even its id is told");
    let response = topics_of(&mut client, None);
    let names: Vec<_> = response.topics.iter().map(|topic| topic.name.as_deref()).collect();
    assert_eq!(names, [Some("other")]);

    // The group may be used, one of the topics not.
    add(&mut client, rule(Effect::Allow, Operation::Read, AclKind::Group, "g"));
    let mut commit = commit_of("t");
    commit.topics.push(commit_of("other").topics.remove(0));
    let response = call!(client, offset_commit, OffsetCommit, 9, commit);
    let codes: Vec<i16> =
        response.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(codes, [29, 0]);
    let asked =
        |name: &str| offset_fetch::TopicWanted { name: name.into(), partition_indexes: vec![0] };
    let request = offset_fetch::Request {
        group_id: "g".into(),
        topics: Some(vec![asked("t"), asked("other")]),
        ..Default::default()
    };
    let response = call!(client, offset_fetch, OffsetFetch, 7, request);
    let found: Vec<(&str, i16, i64)> = response
        .topics
        .iter()
        .map(|topic| {
            let partition = &topic.partitions[0];
            (topic.name.as_str(), partition.error_code, partition.committed_offset)
        })
        .collect();
    assert_eq!(found, [("t", 29, -1), ("other", 0, 1)]);

    // Where all are asked for, what may not be seen is left out.
    permit(&mut client, "", "", "^(t|g|other)$");
    call!(client, offset_commit, OffsetCommit, 9, commit_of("t"));
    permit(&mut client, "", "", "^(g|other)$");
    for version in [7, 9] {
        let group = offset_fetch::GroupWanted { group_id: "g".into(), ..Default::default() };
        let request = offset_fetch::Request {
            group_id: "g".into(),
            topics: None,
            groups: vec![offset_fetch::GroupWanted { topics: None, ..group }],
            ..Default::default()
        };
        let response = call!(client, offset_fetch, OffsetFetch, version, request);
        let count =
            response.topics.len() + response.groups.iter().map(|g| g.topics.len()).sum::<usize>();
        assert_eq!(count, 1, "version {version}");
    }
}

#[test]
fn a_fetch_that_waits_is_answered_when_its_right_goes() {
    let mut client = as_role("read");
    let streams = create_topic(&mut client, "other", 1);
    let mut request = fetch::request("t", vec![fetch::wanted(0, 0)]);
    request.topics.push(fetch::request("other", vec![fetch::wanted(0, 0)]).topics.remove(0));
    assert!(fetch::start(&mut client, &request).is_none());
    // A change that is about something else wakes nobody.
    add(&mut client, rule(Effect::Deny, Operation::Read, AclKind::Topic, "third"));
    client.access_changed();
    assert!(fetch::answered(&mut client).is_none());
    add(&mut client, rule(Effect::Deny, Operation::Read, AclKind::Topic, "t"));
    client.access_changed();
    let response = fetch::answered(&mut client).expect("at once");
    let codes: Vec<i16> =
        response.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(codes, [29, 0]);
    // And the connection goes on.
    client.append_elsewhere(streams[0], &batch(&["a"]));
    let request = fetch::request("other", vec![fetch::wanted(0, 0)]);
    assert!(fetch::start(&mut client, &request).is_some());
}

#[test]
fn what_was_read_before_the_right_went_is_not_handed_out() {
    let mut client = as_role("read");
    let stream = client.engine.metadata.topic(NamespaceId(0), "t").expect("made");
    let stream = stream.stream(0).expect("it has one partition");
    client.engine.append(stream, &batch(&["secret"]));
    client.engine.paused = true;
    let request = fetch::request("t", vec![fetch::wanted(0, 0)]);
    assert!(fetch::start(&mut client, &request).is_none());
    add(&mut client, rule(Effect::Deny, Operation::Read, AclKind::Topic, "t"));
    client.access_changed();
    client.engine.paused = false;
    client.run();
    let response = fetch::answered(&mut client).expect("an answer");
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.records.len()), (29, 0));
}

#[test]
fn a_member_that_waits_is_answered_when_its_group_is_taken_away() {
    let mut client = as_role("read");
    client.engine.paused = true;
    client.queue(ApiKey::JoinGroup, 9, |w| groups::join(9).encode(w, 9));
    client.run();
    add(&mut client, rule(Effect::Deny, Operation::Read, AclKind::Group, "g"));
    client.access_changed();
    let (_, frame) = client.answer(ApiKey::JoinGroup, 9).expect("at once");
    let response = decode(&frame, |r| join_group::Response::decode(r, 9));
    assert_eq!(response.error_code, ErrorCode::GroupAuthorizationFailed.code());
    client.engine.paused = false;
    client.run();
    assert!(client.take_bytes().is_empty(), "the late answer goes nowhere");
    let request = heartbeat::Request { group_id: "g".into(), ..Default::default() };
    let response = call!(client, heartbeat, Heartbeat, 4, request);
    assert_eq!(response.error_code, ErrorCode::GroupAuthorizationFailed.code());
}

#[test]
fn rights_that_come_and_go_are_seen_at_once() {
    let mut client = as_role("no permission");
    let records = batch(&["a"]);
    let produce = |client: &mut Client| {
        produce::produce(client, 9, &produce::request("t", 0, &records)).error_code
    };
    for _ in 0..2 {
        assert_eq!(produce(&mut client), 29);
        permit(&mut client, "", "^t$", "");
        assert_eq!(produce(&mut client), 0);
        assert_eq!(produce(&mut client), 0);
        permit(&mut client, "", "^u$", "");
    }
}
