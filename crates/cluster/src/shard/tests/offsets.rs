//! Committed offsets: what is refused, and when they go.

use super::*;
use koine_broker::membership::GroupError;
use koine_broker::offsets::{CommittedOffset, METADATA_BYTES_MAX};

const DAY_MS: u64 = 24 * 3_600_000;

fn commit(
    node: &mut Node<'_>,
    client: &Client,
    group: &str,
    partitions: std::ops::Range<i32>,
    note: &str,
) -> Result<(), GroupError> {
    let offset = CommittedOffset {
        offset: 7,
        leader_epoch: -1,
        metadata: note.to_owned(),
        commit_timestamp: node.now.wall.0,
    };
    let offsets = partitions.map(|partition| ("t".to_owned(), partition, offset.clone()));
    let offsets = offsets.collect();
    let group = group.to_owned();
    let request = Request::CommitOffsets { token: 1, group, member: None, offsets };
    match node.ask(client, request).pop() {
        Some(Event::Committed { result, .. }) => result,
        other => panic!("{other:?}"),
    }
}

fn kept(node: &mut Node<'_>, client: &Client, group: &str) -> usize {
    let request = Request::FetchOffsets { token: 1, group: group.to_owned(), partitions: None };
    match &node.ask(client, request)[..] {
        [Event::Offsets { result: Ok(offsets), .. }] => offsets.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn commits_beyond_a_bound_are_refused_whole() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 1);
    node.shards[0].config.limits.offsets_per_group_max = 10;
    node.shards[0].config.limits.offset_groups_max = 2;
    let client = node.connect(0);
    let long = "n".repeat(METADATA_BYTES_MAX + 1);
    assert_eq!(commit(&mut node, &client, "a", 0..8, ""), Ok(()));
    assert_eq!(commit(&mut node, &client, "a", 8..11, ""), Err(GroupError::TooManyOffsets));
    assert_eq!(
        commit(&mut node, &client, "a", 0..1, &long),
        Err(GroupError::OffsetMetadataTooLarge)
    );
    assert_eq!(commit(&mut node, &client, "a", 6..10, &long[1..]), Ok(()));
    assert_eq!(kept(&mut node, &client, "a"), 10);
    assert_eq!(commit(&mut node, &client, "b", 0..1, ""), Ok(()));
    assert_eq!(commit(&mut node, &client, "c", 0..1, ""), Err(GroupError::TooManyOffsets));
    assert_eq!(
        commit(&mut node, &client, &"n".repeat(256), 0..1, ""),
        Err(GroupError::InvalidGroupId)
    );
}

#[test]
fn offsets_go_when_nobody_has_used_their_group_for_the_retention_time() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let client = node.connect(0);
    for group in ["old", "young", "other"] {
        assert_eq!(commit(&mut node, &client, group, 0..3, ""), Ok(()));
    }
    pass(&mut node, 6 * DAY_MS);
    assert_eq!(commit(&mut node, &client, "young", 0..1, ""), Ok(()));
    pass(&mut node, DAY_MS - 1000);
    assert_eq!(kept(&mut node, &client, "old"), 3);
    pass(&mut node, 1_200_000);
    let counts = ["old", "young", "other"].map(|group| kept(&mut node, &client, group));
    assert_eq!(counts, [0, 1, 0]);
    pass(&mut node, 6 * DAY_MS);
    assert_eq!(kept(&mut node, &client, "young"), 0);
}

#[test]
fn the_offsets_of_a_deleted_topic_go_with_it() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let client = node.connect(0);
    let create = Command::CreateTopic {
        namespace: NAMESPACE,
        name: "t".to_owned(),
        partitions: 3,
        settings: Default::default(),
        id: [3; 16],
    };
    node.ask(&client, Request::Propose { token: 1, command: create });
    for group in ["a", "b", "c"] {
        assert_eq!(commit(&mut node, &client, group, 0..3, ""), Ok(()));
    }
    let delete = Command::DeleteTopic { namespace: NAMESPACE, name: "t".to_owned() };
    node.ask(&client, Request::Propose { token: 1, command: delete });
    for group in ["a", "b", "c"] {
        assert_eq!(kept(&mut node, &client, group), 0, "{group}");
    }
}
