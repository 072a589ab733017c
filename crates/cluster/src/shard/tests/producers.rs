//! What a stream takes of idempotent producers.

use super::*;
use koine_broker::metadata::TopicSettings;

/// A number that no stream here was made after.
const PRODUCER: i64 = 77;

pub(super) fn produce(stream: StreamId, sequence: i32) -> Request {
    let mut builder = BatchBuilder::new(1);
    builder.push(1, None, Some(&[b"value"]), &[]);
    builder.set_producer(PRODUCER, 0, sequence);
    let batch = builder.finish(0, 0);
    let info = batch::BatchHeader::new(&batch).and_then(|h| h.info()).expect("built here");
    Request::Append { token: Some(sequence as u64), stream, batch, info }
}

pub(super) fn appended(events: &[Event]) -> Vec<(Token, Result<u64, Refusal>)> {
    let appended = events.iter().filter_map(|event| match event {
        Event::Appended { token, result } => {
            Some((*token, result.as_ref().map(|it| it.base_offset).map_err(|refusal| *refusal)))
        }
        _ => None,
    });
    appended.collect()
}

#[test]
fn a_batch_that_is_repeated_while_it_is_stored_is_answered_twice_with_one_offset() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 1);
    let client = node.connect(0);
    let stream = node.queue(&client, "a");
    node.ask(&client, produce(stream, 0));
    let twice = [produce(stream, 1), produce(stream, 1), produce(stream, 2)];
    client.script.borrow_mut().requests.extend(twice);
    node.shards[0].receive(node.now, client.id, &mut BytesMut::new());
    assert_eq!(appended(&client.take()), [], "the disk has it all to do");
    node.settle();
    assert_eq!(appended(&client.take()), [(1, Ok(1)), (1, Ok(1)), (2, Ok(2))]);
}

fn topic(node: &mut Node<'_>, client: &Client, id: u8) -> StreamId {
    let (name, partitions, settings) = ("t".to_owned(), 1, TopicSettings::default());
    let command =
        Command::CreateTopic { namespace: NAMESPACE, name, partitions, settings, id: [id; 16] };
    match &node.ask(client, Request::Propose { token: 1, command })[..] {
        [Event::Proposed { result: Ok(Outcome::TopicCreated { streams, .. }), .. }] => streams[0],
        other => panic!("{other:?}"),
    }
}

/// A producer that lives on while its topic is deleted and made again goes on counting, as with Kafka.
#[test]
fn whoever_is_older_than_its_topic_may_begin_with_any_sequence() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 1);
    let client = node.connect(0);
    let first = topic(&mut node, &client, 1);
    let out_of_order = [(5, Err(Refusal::OutOfOrderSequence))];
    assert_eq!(appended(&node.ask(&client, produce(first, 5))), out_of_order);
    assert_eq!(appended(&node.ask(&client, produce(first, 0))), [(0, Ok(0))]);
    for _ in 0..=PRODUCER {
        node.ask(&client, Request::Propose { token: 1, command: Command::AllocateProducerId });
    }
    let name = "t".to_owned();
    let delete = Command::DeleteTopic { namespace: NAMESPACE, name };
    node.ask(&client, Request::Propose { token: 1, command: delete });
    let second = topic(&mut node, &client, 2);
    assert_eq!(appended(&node.ask(&client, produce(second, 5))), [(5, Ok(0))]);
    let out_of_order = [(7, Err(Refusal::OutOfOrderSequence))];
    assert_eq!(appended(&node.ask(&client, produce(second, 7))), out_of_order, "a gap stays one");
}
