//! Kafka with the `rdkafka` crate (librdkafka): produce, consume, compression, groups, admin, errors.
//!
//! `cargo run -p client-rdkafka -- HOST:PORT` (or `KOINE_KAFKA=HOST:PORT`; usual: 127.0.0.1:9092).

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use checks::{same, unique, why, Checks, Outcome};
use futures::future::try_join_all;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(20);
const RECORDS: usize = 100;

fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("broker.address.family", "v4");
    config
}

fn producer(address: &str, settings: &[(&str, &str)]) -> Result<FutureProducer, String> {
    let mut config = config(address);
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "5");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().map_err(why)
}

fn admin(address: &str) -> Result<AdminClient<DefaultClientContext>, String> {
    config(address).create().map_err(why)
}

async fn create_topic(address: &str, name: &str, partitions: i32) -> Outcome {
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let results = admin(address)?
        .create_topics([&topic], &AdminOptions::new())
        .await
        .map_err(why)?;
    results.into_iter().try_for_each(|result| {
        result
            .map(drop)
            .map_err(|(name, code)| format!("{name}: {code:?}"))
    })
}

/// Sends `RECORDS` records, spread over the partitions, and returns the offset of each.
async fn send_all(
    producer: &FutureProducer,
    topic: &str,
    partitions: usize,
) -> Result<Vec<(i32, i64)>, String> {
    let sends = (0..RECORDS).map(|i| async move {
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "number",
                value: Some(&i.to_string()),
            })
            .insert(Header {
                key: "null",
                value: None::<&str>,
            });
        let (key, body) = (format!("key-{i}"), vec![(i % 256) as u8; i * 10]);
        let partition = i32::try_from(i % partitions).expect("few partitions");
        let record = FutureRecord::to(topic)
            .key(&key)
            .payload(&body)
            .headers(headers)
            .partition(partition);
        let delivery = producer
            .send(record, TIMEOUT)
            .await
            .map_err(|(error, _)| error)?;
        Ok::<_, KafkaError>((delivery.partition, delivery.offset))
    });
    try_join_all(sends).await.map_err(why)
}

/// Reads one partition from its start and compares every record with what `send_all` wrote.
async fn read_all(address: &str, topic: &str) -> Outcome {
    let consumer: StreamConsumer = config(address)
        .set("group.id", unique("read"))
        .create()
        .map_err(why)?;
    let mut start = TopicPartitionList::new();
    start
        .add_partition_offset(topic, 0, Offset::Beginning)
        .map_err(why)?;
    consumer.assign(&start).map_err(why)?;
    for i in 0..RECORDS {
        let record = consumer.recv().await.map_err(why)?;
        same("offset", record.offset(), i as i64)?;
        same("key", record.key(), Some(format!("key-{i}").as_bytes()))?;
        same(
            "body",
            record.payload().unwrap_or_default(),
            &vec![(i % 256) as u8; i * 10][..],
        )?;
        let headers = record.headers().ok_or("no headers")?;
        same("header count", headers.count(), 2)?;
        same(
            "header",
            headers.get(0).value,
            Some(i.to_string().as_bytes()),
        )?;
        same("null header", headers.get(1).value, None)?;
    }
    Ok(())
}

async fn produce_and_consume(address: &str, settings: &[(&str, &str)]) -> Outcome {
    let topic = unique("rdkafka");
    create_topic(address, &topic, 1).await?;
    let offsets = send_all(&producer(address, settings)?, &topic, 1).await?;
    let wanted: Vec<_> = (0..RECORDS as i64).map(|offset| (0, offset)).collect();
    same("offsets", offsets, wanted)?;
    read_all(address, &topic).await
}

/// A record to a topic that nobody has created makes the topic.
async fn auto_create(address: &str) -> Outcome {
    let topic = unique("rdkafka-auto");
    let sent = producer(address, &[])?
        .send(FutureRecord::to(&topic).key("k").payload("v"), TIMEOUT)
        .await;
    sent.map(drop).map_err(|(error, _)| why(error))
}

fn group_member(address: &str, group: &str, topic: &str) -> Result<StreamConsumer, String> {
    let mut config = config(address);
    config
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false");
    let consumer: StreamConsumer = config.create().map_err(why)?;
    consumer.subscribe(&[topic]).map_err(why)?;
    Ok(consumer)
}

/// Two members share four partitions and commit; a third takes over and sees only what came later.
async fn group(address: &str) -> Outcome {
    let (topic, group) = (unique("rdkafka-group"), unique("group"));
    create_topic(address, &topic, 4).await?;
    let producer = producer(address, &[])?;
    send_all(&producer, &topic, 4).await?;
    let members = [
        group_member(address, &group, &topic)?,
        group_member(address, &group, &topic)?,
    ];
    let mut seen = BTreeSet::new();
    while seen.len() < RECORDS {
        let record = tokio::select! { record = members[0].recv() => record, record = members[1].recv() => record };
        let record = record.map_err(why)?;
        seen.insert((record.partition(), record.offset()));
    }
    let committed = same(
        "all partitions read",
        seen.iter().map(|(p, _)| *p).collect::<BTreeSet<_>>().len(),
        4,
    );
    committed?;
    let mut offsets = TopicPartitionList::new();
    for partition in 0..4 {
        let next = seen
            .iter()
            .filter(|(p, _)| *p == partition)
            .map(|(_, o)| o + 1)
            .max()
            .unwrap_or(0);
        offsets
            .add_partition_offset(&topic, partition, Offset::Offset(next))
            .map_err(why)?;
    }
    let assigned =
        |member: &StreamConsumer| member.assignment().map(|list| list.count()).unwrap_or(0);
    while assigned(&members[0]) + assigned(&members[1]) != 4 {
        let _ = tokio::time::timeout(Duration::from_millis(100), members[0].recv()).await;
        let _ = tokio::time::timeout(Duration::from_millis(100), members[1].recv()).await;
    }
    let owner = usize::from(assigned(&members[0]) == 0);
    members[owner]
        .commit(&offsets, CommitMode::Sync)
        .map_err(why)?;
    drop(members);
    let late = FutureRecord::to(&topic)
        .partition(2)
        .key("late")
        .payload("late");
    producer
        .send(late, TIMEOUT)
        .await
        .map_err(|(error, _)| why(error))?;
    let successor = group_member(address, &group, &topic)?;
    let record = successor.recv().await.map_err(why)?;
    same(
        "first record after the commit",
        record.payload(),
        Some(&b"late"[..]),
    )
}

async fn watermarks(address: &str) -> Outcome {
    let topic = unique("rdkafka-marks");
    create_topic(address, &topic, 1).await?;
    send_all(&producer(address, &[])?, &topic, 1).await?;
    let consumer: StreamConsumer = config(address)
        .set("group.id", unique("marks"))
        .create()
        .map_err(why)?;
    same(
        "watermarks",
        consumer.fetch_watermarks(&topic, 0, TIMEOUT).map_err(why)?,
        (0, RECORDS as i64),
    )
}

async fn admin_topics(address: &str) -> Outcome {
    let topic = unique("rdkafka-admin");
    create_topic(address, &topic, 3).await?;
    let admin = admin(address)?;
    let metadata = admin
        .inner()
        .fetch_metadata(Some(&topic), TIMEOUT)
        .map_err(why)?;
    same("partitions", metadata.topics()[0].partitions().len(), 3)?;
    let results = admin
        .delete_topics(&[&topic], &AdminOptions::new())
        .await
        .map_err(why)?;
    results.into_iter().try_for_each(|result| {
        result
            .map(drop)
            .map_err(|(name, code)| format!("{name}: {code:?}"))
    })
}

/// Creating a topic twice is refused with the error of that name.
async fn error_topic_exists(address: &str) -> Outcome {
    let name = unique("rdkafka-twice");
    create_topic(address, &name, 1).await?;
    let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let results = admin(address)?
        .create_topics([&topic], &AdminOptions::new())
        .await
        .map_err(why)?;
    same(
        "result",
        results,
        vec![Err((name.clone(), Code::TopicAlreadyExists))],
    )
}

/// A record above the topic's `max.message.bytes` is refused, and the producer says so.
async fn error_too_large(address: &str) -> Outcome {
    let topic = unique("rdkafka-large");
    create_topic(address, &topic, 1).await?;
    let producer = producer(address, &[("message.max.bytes", "8000000")])?;
    let body = vec![7u8; 2_000_000];
    match producer
        .send(FutureRecord::to(&topic).key("k").payload(&body), TIMEOUT)
        .await
    {
        Err((KafkaError::MessageProduction(Code::MessageSizeTooLarge), _)) => Ok(()),
        other => Err(format!(
            "want MessageSizeTooLarge, got {:?}",
            other.map_err(|(error, _)| error)
        )),
    }
}

/// Reading beyond the end with no reset policy ends in the client's own error.
async fn error_out_of_range(address: &str) -> Outcome {
    let topic = unique("rdkafka-range");
    create_topic(address, &topic, 1).await?;
    let mut config = config(address);
    config
        .set("group.id", unique("range"))
        .set("auto.offset.reset", "error");
    let consumer: StreamConsumer = config.create().map_err(why)?;
    let mut start = TopicPartitionList::new();
    start
        .add_partition_offset(&topic, 0, Offset::Offset(1_000_000))
        .map_err(why)?;
    consumer.assign(&start).map_err(why)?;
    match consumer.recv().await {
        Err(KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange)) => {
            Ok(())
        }
        other => Err(format!(
            "want an offset error, got {:?}",
            other.map(|record| record.detach())
        )),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let address = checks::address("KOINE_KAFKA", "127.0.0.1:9092");
    let address = address.as_str();
    let mut checks = Checks::default();
    checks
        .run("produce-consume", produce_and_consume(address, &[]))
        .await;
    for codec in ["gzip", "snappy", "lz4"] {
        checks
            .run(
                &format!("compression-{codec}"),
                produce_and_consume(address, &[("compression.type", codec)]),
            )
            .await;
    }
    checks.run("auto-create", auto_create(address)).await;
    checks.run("group", group(address)).await;
    checks.run("watermarks", watermarks(address)).await;
    checks.run("admin-topics", admin_topics(address)).await;
    checks
        .run("error-topic-exists", error_topic_exists(address))
        .await;
    checks
        .run("error-too-large", error_too_large(address))
        .await;
    checks
        .run("error-out-of-range", error_out_of_range(address))
        .await;
    checks.finish()
}
