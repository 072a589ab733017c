//! Topics, partitions and settings.

use super::*;
use create_topics::{ConfigWanted, ReplicaAssignment, TopicWanted};

fn new_topic(name: &str) -> TopicWanted {
    TopicWanted {
        name: name.into(),
        num_partitions: 3,
        replication_factor: 1,
        ..Default::default()
    }
}

fn setting(name: &str, value: &str) -> Vec<ConfigWanted> {
    vec![ConfigWanted { name: name.into(), value: Some(value.into()) }]
}

fn create(
    client: &mut Client,
    version: i16,
    topics: Vec<TopicWanted>,
) -> Vec<create_topics::Topic> {
    let request = create_topics::Request { topics, ..Default::default() };
    call!(client, create_topics, CreateTopics, version, request).topics
}

#[test]
fn topics_are_created_in_every_version() {
    for version in 0..=7 {
        let mut client = Client::new();
        let wanted = TopicWanted { configs: setting("retention.ms", "1000"), ..new_topic("t") };
        let created = create(&mut client, version, vec![wanted.clone()]);
        assert_eq!((created.len(), created[0].error_code), (1, 0));
        let topic = client.engine.metadata.topic(NamespaceId(0), "t").expect("created");
        assert_eq!((topic.partition_count(), topic.settings.retention_ms), (3, Some(1000)));
        if version >= 5 {
            assert_eq!((created[0].num_partitions, created[0].replication_factor), (3, 1));
            let configs = created[0].configs.as_ref().expect("there are settings");
            let given =
                configs.iter().find(|config| config.name == "retention.ms").expect("listed");
            assert_eq!((given.value.as_deref(), given.config_source), (Some("1000"), 1));
        }
        if version >= 7 {
            assert_eq!(created[0].topic_id, topic.id().0);
        }
        let again = create(&mut client, version, vec![wanted]);
        assert_eq!(again[0].error_code, ErrorCode::TopicAlreadyExists.code());
    }
}

#[test]
fn what_cannot_be_created_is_refused() {
    let check = |version, topic: TopicWanted, expect: ErrorCode| {
        let mut client = Client::new();
        let created = create(&mut client, version, vec![topic]);
        assert_eq!(created[0].error_code, expect.code(), "{:?}", created[0]);
    };
    let partitions = |num_partitions| TopicWanted { num_partitions, ..new_topic("t") };
    let replicas = |replication_factor| TopicWanted { replication_factor, ..new_topic("t") };
    let configured = |name, value| TopicWanted { configs: setting(name, value), ..new_topic("t") };
    check(7, new_topic("a/b"), ErrorCode::InvalidTopicException);
    check(7, partitions(0), ErrorCode::InvalidPartitions);
    check(7, partitions(1_000_000), ErrorCode::InvalidPartitions);
    check(7, partitions(-1), ErrorCode::None);
    check(3, partitions(-1), ErrorCode::None);
    check(7, partitions(-2), ErrorCode::InvalidPartitions);
    check(7, replicas(-2), ErrorCode::InvalidReplicationFactor);
    check(7, replicas(3), ErrorCode::InvalidReplicationFactor);
    check(7, replicas(-1), ErrorCode::None);
    check(7, configured("cleanup.policy", "compact"), ErrorCode::InvalidConfig);
    check(7, configured("cleanup.policy", "delete"), ErrorCode::None);
    check(7, configured("nonsense", "1"), ErrorCode::InvalidConfig);
    let assignment =
        |partition_index, broker| ReplicaAssignment { partition_index, broker_ids: vec![broker] };
    let assigned = |assignments| TopicWanted {
        num_partitions: -1,
        replication_factor: -1,
        assignments,
        ..new_topic("t")
    };
    check(7, assigned(vec![assignment(0, 1), assignment(1, 1)]), ErrorCode::None);
    check(7, assigned(vec![assignment(0, 2)]), ErrorCode::InvalidReplicaAssignment);
    check(7, assigned(vec![assignment(1, 1)]), ErrorCode::InvalidReplicaAssignment);
    let both = TopicWanted { assignments: vec![assignment(0, 1)], ..new_topic("t") };
    check(7, both, ErrorCode::InvalidRequest);
}

#[test]
fn topics_named_twice_are_refused_and_checked_ones_not_made() {
    let mut client = Client::new();
    let twice = vec![new_topic("t"), new_topic("u"), new_topic("t")];
    let answers = create(&mut client, 7, twice);
    let codes: Vec<i16> = answers.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [ErrorCode::InvalidRequest.code(), 0]);
    let topics = vec![new_topic("v")];
    let request = create_topics::Request { topics, validate_only: true, ..Default::default() };
    let checked = call!(client, create_topics, CreateTopics, 7, request).topics;
    assert_eq!(checked[0].error_code, 0);
    assert!(client.engine.metadata.topic(NamespaceId(0), "v").is_none());
}

#[test]
fn topics_are_deleted_by_name_and_id() {
    for version in 0..=6 {
        let mut client = Client::new();
        create_topic(&mut client, "t", 1);
        create_topic(&mut client, "u", 1);
        let by_id = delete_topics::TopicWanted { name: None, topic_id: topic_id(&client, "u") };
        let by_name =
            |name: &str| delete_topics::TopicWanted { name: Some(name.into()), topic_id: [0; 16] };
        let request = if version == 6 {
            let topics = vec![by_name("t"), by_id, by_name("missing")];
            delete_topics::Request { topics, ..Default::default() }
        } else {
            let topic_names = vec!["t".into(), "u".into(), "missing".into()];
            delete_topics::Request { topic_names, ..Default::default() }
        };
        let response = call!(client, delete_topics, DeleteTopics, version, request);
        let codes: Vec<i16> = response.responses.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 0, ErrorCode::UnknownTopicOrPartition.code()]);
        assert_eq!(client.engine.metadata.topics(NamespaceId(0)).count(), 0);
    }
}

#[test]
fn partitions_are_added() {
    for version in 0..=3 {
        let mut client = Client::new();
        create_topic(&mut client, "t", 2);
        let mut grow = |count| {
            let wanted =
                create_partitions::TopicWanted { name: "t".into(), count, assignments: None };
            let request = create_partitions::Request { topics: vec![wanted], ..Default::default() };
            let response = call!(client, create_partitions, CreatePartitions, version, request);
            response.results[0].error_code
        };
        assert_eq!(grow(4), 0);
        for count in [4, -1, 1_000_000] {
            assert_eq!(grow(count), ErrorCode::InvalidPartitions.code());
        }
        let topic = client.engine.metadata.topic(NamespaceId(0), "t").expect("created");
        assert_eq!(topic.partition_count(), 4);
    }
}

fn describe(client: &mut Client, version: i16, kind: i8, name: &str) -> describe_configs::Resource {
    let wanted = describe_configs::ResourceWanted {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: None,
    };
    let request = describe_configs::Request {
        resources: vec![wanted],
        include_synonyms: true,
        include_documentation: true,
    };
    call!(client, describe_configs, DescribeConfigs, version, request).results.remove(0)
}

/// Changes one key of topic `t`: the error code.
fn alter(client: &mut Client, operation: i8, name: &str, value: Option<&str>) -> i16 {
    let config = incremental_alter_configs::ConfigWanted {
        name: name.into(),
        config_operation: operation,
        value: value.map(str::to_string),
    };
    let resource = incremental_alter_configs::ResourceWanted {
        resource_type: 2,
        resource_name: "t".into(),
        configs: vec![config],
    };
    let request =
        incremental_alter_configs::Request { resources: vec![resource], validate_only: false };
    let mut response =
        call!(client, incremental_alter_configs, IncrementalAlterConfigs, 1, request);
    response.responses.remove(0).error_code
}

/// Value, source and whether it is the default.
fn value(client: &mut Client, version: i16, name: &str) -> (String, i8, bool) {
    let resource = describe(client, version, 2, "t");
    assert_eq!(resource.error_code, 0);
    assert_eq!(resource.configs.len(), crate::config::TOPIC_KEYS.len());
    let config = resource.configs.into_iter().find(|config| config.name == name).expect("listed");
    (config.value.expect("a value"), config.config_source, config.is_default)
}

#[test]
fn settings_are_described_and_altered() {
    let mut client = Client::new();
    create_topic(&mut client, "t", 1);
    for version in 1..=4 {
        let shown = value(&mut client, version, "retention.ms");
        assert_eq!((shown.0.as_str(), shown.1), ("604800000", 5));
    }
    assert!(value(&mut client, 0, "retention.ms").2);
    assert_eq!(alter(&mut client, 0, "retention.ms", Some("5")), 0);
    assert_eq!(alter(&mut client, 0, "retention.bytes", Some("6")), 0);
    assert_eq!(value(&mut client, 4, "retention.ms").0, "5");
    assert_eq!(alter(&mut client, 1, "retention.ms", None), 0);
    assert_eq!(value(&mut client, 4, "retention.ms").1, 5);
    assert_eq!(value(&mut client, 4, "retention.bytes").0, "6");
    assert_eq!(alter(&mut client, 2, "cleanup.policy", Some("delete")), 0);
    assert_eq!(alter(&mut client, 0, "koine.durability", Some("fsync")), 0);
    let refused: [(i8, &str, Option<&str>); 6] = [
        (2, "cleanup.policy", Some("compact")),
        (2, "retention.ms", Some("1")),
        (3, "cleanup.policy", Some("delete")),
        (9, "retention.ms", Some("1")),
        (0, "retention.ms", None),
        (0, "koine.durability", Some("memory")),
    ];
    for (operation, name, value) in refused {
        let code = alter(&mut client, operation, name, value);
        assert_eq!(code, ErrorCode::InvalidConfig.code(), "{operation} {name}");
    }
}

#[test]
fn altering_as_a_whole_resets_what_is_not_named() {
    for version in 0..=2 {
        let mut client = Client::new();
        create_topic(&mut client, "t", 1);
        alter(&mut client, 0, "retention.bytes", Some("6"));
        let config =
            alter_configs::ConfigWanted { name: "retention.ms".into(), value: Some("7".into()) };
        let resource = |name: &str, resource_type| alter_configs::ResourceWanted {
            resource_type,
            resource_name: name.into(),
            configs: vec![config.clone()],
        };
        let resources =
            vec![resource("t", 2), resource("missing", 2), resource("1", 4), resource("t", 2)];
        let request = alter_configs::Request { resources, validate_only: false };
        let response = call!(client, alter_configs, AlterConfigs, version, request);
        let codes: Vec<i16> = response.responses.iter().map(|answer| answer.error_code).collect();
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        let invalid = ErrorCode::InvalidRequest.code();
        assert_eq!(codes, [0, unknown, invalid, invalid]);
        let topic = client.engine.metadata.topic(NamespaceId(0), "t").expect("created");
        let settings = &topic.settings;
        assert_eq!((settings.retention_ms, settings.retention_bytes), (Some(7), None));
    }
}

#[test]
fn the_broker_and_unknown_resources_are_described() {
    let mut client = Client::new();
    let broker = describe(&mut client, 4, 4, "1");
    assert_eq!(broker.error_code, 0);
    let partitions = broker.configs.iter().find(|c| c.name == "num.partitions").expect("listed");
    assert_eq!(partitions.value.as_deref(), Some("2"));
    assert!(broker.configs.iter().all(|config| config.read_only));
    assert_eq!(describe(&mut client, 4, 4, "").configs.len(), 0);
    assert_eq!(describe(&mut client, 4, 4, "9").error_code, ErrorCode::InvalidRequest.code());
    assert_eq!(describe(&mut client, 4, 16, "x").error_code, ErrorCode::InvalidRequest.code());
    let missing = describe(&mut client, 4, 2, "missing");
    assert_eq!(missing.error_code, ErrorCode::UnknownTopicOrPartition.code());
}

#[test]
fn the_cluster_is_described() {
    for version in 0..=2 {
        let mut client = Client::new();
        let response =
            call!(client, describe_cluster, DescribeCluster, version, Default::default());
        assert_eq!((response.cluster_id.as_str(), response.brokers[0].port), ("cluster", 9092));
        if version >= 1 {
            let request = describe_cluster::Request { endpoint_type: 2, ..Default::default() };
            let response = call!(client, describe_cluster, DescribeCluster, version, request);
            assert_eq!(response.error_code, ErrorCode::MismatchedEndpointType.code());
        }
    }
}

#[test]
fn topics_are_described_in_pages() {
    let mut client = Client::new();
    create_topic(&mut client, "t", 3);
    create_topic(&mut client, "u", 2);
    let mut request =
        describe_topic_partitions::Request { response_partition_limit: 2, ..Default::default() };
    let mut seen = Vec::new();
    for _ in 0..3 {
        let response =
            call!(client, describe_topic_partitions, DescribeTopicPartitions, 0, request.clone());
        for topic in response.topics {
            let name = topic.name.expect("a name");
            seen.extend(topic.partitions.iter().map(|p| (name.clone(), p.partition_index)));
        }
        let cursor = response.next_cursor;
        request.cursor = cursor.map(|cursor| describe_topic_partitions::StartAt {
            topic_name: cursor.topic_name,
            partition_index: cursor.partition_index,
        });
    }
    let expect = [("t", 0), ("t", 1), ("t", 2), ("u", 0), ("u", 1)];
    assert_eq!(seen, expect.map(|(name, index)| (name.to_string(), index)));
    assert!(request.cursor.is_none());
}
