//! Classic groups and their offsets.

use super::*;
use koine_broker::membership::*;

pub fn join(version: i16) -> join_group::Request {
    let protocol =
        join_group::Protocol { name: "range".into(), metadata: Bytes::from_static(b"meta") };
    join_group::Request {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: if version == 0 { -1 } else { 20_000 },
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    }
}

#[test]
fn joining_hands_over_what_the_client_said() {
    for version in 0..=9 {
        let mut client = Client::new();
        let member = JoinedMember {
            member_id: "m1".into(),
            instance_id: (version >= 5).then(|| "i".to_string()),
            metadata: Bytes::from_static(b"meta"),
        };
        client.engine.group_answers.push_back(Answer::Join(Ok(Joined {
            generation: 3,
            protocol_type: "consumer".into(),
            protocol_name: "range".into(),
            leader: "m1".into(),
            member_id: "m1".into(),
            skip_assignment: false,
            members: vec![member],
        })));
        let response = call!(client, join_group, JoinGroup, version, join(version));
        assert_eq!((response.error_code, response.generation_id), (0, 3));
        assert_eq!(response.protocol_name.as_deref(), Some("range"));
        assert_eq!(&response.members[0].metadata[..], b"meta");
        let koine_broker::membership::Request::Join(join) = &client.engine.group_requests[0] else {
            panic!("not a join");
        };
        assert_eq!(join.rebalance_timeout_ms, if version == 0 { 10_000 } else { 20_000 });
        assert_eq!(join.require_known_member_id, version >= 4);
        assert_eq!(join.supports_skipping_assignment, version >= 9);
        assert_eq!((join.client_id.as_str(), join.client_host.as_str()), ("tester", "/127.0.0.1"));
    }
}

#[test]
fn a_refused_join_names_the_member_id_to_come_back_with() {
    for version in 0..=9 {
        let mut client = Client::new();
        let refused = JoinRefused { error: GroupError::MemberIdRequired, member_id: "m".into() };
        client.engine.group_answers.push_back(Answer::Join(Err(refused)));
        let response = call!(client, join_group, JoinGroup, version, join(version));
        assert_eq!(response.error_code, ErrorCode::MemberIdRequired.code());
        assert_eq!((response.member_id.as_str(), response.generation_id), ("m", -1));
    }
    let mut client = Client::new();
    let request = join_group::Request { session_timeout_ms: -5, ..join(9) };
    let response = call!(client, join_group, JoinGroup, 9, request);
    assert_eq!(response.error_code, ErrorCode::InvalidSessionTimeout.code());
}

#[test]
fn sync_heartbeat_and_leave_pass_their_errors_on() {
    let mut client = Client::new();
    for version in 0..=5 {
        let synced = Synced { assignment: Bytes::from_static(b"x"), ..Default::default() };
        client.engine.group_answers.push_back(Answer::Sync(Ok(synced)));
        let response = call!(client, sync_group, SyncGroup, version, Default::default());
        assert_eq!((response.error_code, &response.assignment[..]), (0, &b"x"[..]));
        client.engine.group_answers.push_back(Answer::Sync(Err(GroupError::RebalanceInProgress)));
        let response = call!(client, sync_group, SyncGroup, version, Default::default());
        assert_eq!(response.error_code, ErrorCode::RebalanceInProgress.code());
    }
    for version in 0..=4 {
        let refused = Answer::Heartbeat(Err(GroupError::IllegalGeneration));
        client.engine.group_answers.push_back(refused);
        let response = call!(client, heartbeat, Heartbeat, version, Default::default());
        assert_eq!(response.error_code, ErrorCode::IllegalGeneration.code());
        client.engine.group_answers.push_back(Answer::Heartbeat(Ok(())));
        assert_eq!(call!(client, heartbeat, Heartbeat, version, Default::default()).error_code, 0);
    }
    for version in 0..=5 {
        let member = MemberRef { member_id: "m".into(), instance_id: None };
        let left = vec![(member, Err(GroupError::UnknownMemberId))];
        client.engine.group_answers.push_back(Answer::Leave(Ok(left)));
        let response = call!(client, leave_group, LeaveGroup, version, Default::default());
        let code = response.members.first().map_or(response.error_code, |m| m.error_code);
        assert_eq!(code, ErrorCode::UnknownMemberId.code());
        assert_eq!(response.members.len(), usize::from(version >= 3));
    }
}

fn description(phase: GroupPhase) -> Answer {
    Answer::Describe(Ok(GroupDescription {
        group: "g".into(),
        phase,
        protocol_type: "consumer".into(),
        protocol_name: "range".into(),
        members: vec![MemberDescription { member_id: "m".into(), ..Default::default() }],
    }))
}

#[test]
fn groups_are_described() {
    let mut client = Client::new();
    let describe = || describe_groups::Request { groups: vec!["g".into()], ..Default::default() };
    for version in 0..=6 {
        client.engine.group_answers.push_back(description(GroupPhase::Stable));
        let response = call!(client, describe_groups, DescribeGroups, version, describe());
        assert_eq!(response.groups[0].group_state, "Stable");
        assert_eq!(response.groups[0].members[0].member_id, "m");
        client.engine.group_answers.push_back(description(GroupPhase::Dead));
        let response = call!(client, describe_groups, DescribeGroups, version, describe());
        let expect = if version >= 6 { ErrorCode::GroupIdNotFound } else { ErrorCode::None };
        assert_eq!(response.groups[0].error_code, expect.code());
    }
}

#[test]
fn groups_are_listed_and_deleted() {
    let mut client = Client::new();
    client.engine.groups = vec![GroupListing {
        group: "g".into(),
        protocol_type: "consumer".into(),
        phase: GroupPhase::Empty,
    }];
    for version in 0..=5 {
        let all = call!(client, list_groups, ListGroups, version, Default::default());
        assert_eq!(all.groups.len(), 1);
        let request =
            list_groups::Request { states_filter: vec!["stable".into()], types_filter: Vec::new() };
        let filtered = call!(client, list_groups, ListGroups, version, request);
        assert_eq!(filtered.groups.len(), usize::from(version < 4));
    }
    for version in 0..=2 {
        client.engine.group_answers.push_back(Answer::Delete(Err(GroupError::NonEmptyGroup)));
        client.engine.group_answers.push_back(Answer::Delete(Ok(())));
        let request = delete_groups::Request { groups_names: vec!["g".into(), "h".into()] };
        let response = call!(client, delete_groups, DeleteGroups, version, request);
        assert_eq!(response.results[0].error_code, ErrorCode::NonEmptyGroup.code());
        assert_eq!(response.results[1].error_code, 0);
    }
}

fn commit(name: &str, topic_id: [u8; 16], metadata: &str) -> offset_commit::Request {
    let offset = |partition_index| offset_commit::PartitionOffset {
        partition_index,
        committed_offset: 42,
        committed_leader_epoch: 7,
        committed_metadata: Some(metadata.into()),
        ..Default::default()
    };
    let topic = offset_commit::TopicOffsets {
        name: name.into(),
        topic_id,
        partitions: vec![offset(0), offset(9)],
    };
    offset_commit::Request { group_id: "g".into(), topics: vec![topic], ..Default::default() }
}

/// Partition, offset, metadata and error.
type Row = (i32, i64, Option<String>, i16);

/// The rows of the one topic.
fn fetch_offsets(client: &mut Client, version: i16, topic_id: [u8; 16], all: bool) -> Vec<Row> {
    let partition_indexes = vec![0, 5];
    let topic = offset_fetch::TopicWanted {
        name: "t".into(),
        partition_indexes: partition_indexes.clone(),
    };
    let group_topic =
        offset_fetch::GroupTopicWanted { name: "t".into(), topic_id, partition_indexes };
    let request = offset_fetch::Request {
        group_id: "g".into(),
        topics: (!all).then(|| vec![topic]),
        groups: vec![offset_fetch::GroupWanted {
            group_id: "g".into(),
            topics: (!all).then(|| vec![group_topic]),
            ..Default::default()
        }],
        require_stable: true,
    };
    let mut response = call!(client, offset_fetch, OffsetFetch, version, request);
    if version < 8 {
        let rows = response.topics.remove(0).partitions.into_iter();
        return rows
            .map(|p| (p.partition_index, p.committed_offset, p.metadata, p.error_code))
            .collect();
    }
    let topic = response.groups.remove(0).topics.remove(0);
    assert_eq!(topic.topic_id == topic_id, version >= 10);
    let rows = topic.partitions.into_iter();
    rows.map(|p| (p.partition_index, p.committed_offset, p.metadata, p.error_code)).collect()
}

#[test]
fn offsets_are_committed_and_fetched_in_every_version() {
    for version in 0..=10 {
        let mut client = Client::new();
        create_topic(&mut client, "t", 1);
        let id = topic_id(&client, "t");
        let response = call!(client, offset_commit, OffsetCommit, version, commit("t", id, "note"));
        let codes: Vec<i16> = response.topics[0].partitions.iter().map(|p| p.error_code).collect();
        assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code()]);
        let long = commit("t", id, &"x".repeat(4097));
        let response = call!(client, offset_commit, OffsetCommit, version, long);
        let code = response.topics[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::OffsetMetadataTooLarge.code());

        let fetched = fetch_offsets(&mut client, version, id, false);
        assert_eq!(fetched[0], (0, 42, Some("note".to_string()), 0));
        assert_eq!(fetched[1], (5, -1, Some(String::new()), 0));
        if version >= 2 {
            assert_eq!(fetch_offsets(&mut client, version, id, true), fetched[..1]);
        }
    }
}

#[test]
fn unknown_topic_ids_are_named_as_such() {
    let mut client = Client::new();
    let response = call!(client, offset_commit, OffsetCommit, 10, commit("", [8; 16], ""));
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::UnknownTopicId.code());
    let fetched = fetch_offsets(&mut client, 10, [8; 16], false);
    let unknown = ErrorCode::UnknownTopicId.code();
    assert_eq!(fetched[0], (0, -1, Some(String::new()), unknown));
}

#[test]
fn offsets_are_deleted() {
    let mut client = Client::new();
    create_topic(&mut client, "t", 1);
    call!(client, offset_commit, OffsetCommit, 2, commit("t", [0; 16], ""));
    let wanted = |partition_index| offset_delete::PartitionWanted { partition_index };
    let topic =
        offset_delete::TopicWanted { name: "t".into(), partitions: vec![wanted(0), wanted(3)] };
    let request = offset_delete::Request { group_id: "g".into(), topics: vec![topic] };
    let response = call!(client, offset_delete, OffsetDelete, 0, request);
    assert_eq!(response.error_code, 0);
    let codes: Vec<i16> = response.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code()]);
    assert_eq!(fetch_offsets(&mut client, 1, [0; 16], false)[0].1, -1);
}
