//! AMQP 0-9-1 with the `lapin` crate: publish with confirms, consume, get, settle, route, return, errors.
//!
//! `cargo run -p client-lapin -- HOST:PORT` (or `KOINE_AMQP=HOST:PORT`; usual: 127.0.0.1:5672).

use std::process::ExitCode;

use checks::{same, unique, why, Checks, Outcome};
use futures::StreamExt;
use lapin::message::{BasicGetMessage, Delivery};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind,
    ExchangeKind,
};

const BODY_SIZES: [usize; 5] = [0, 1, 1_000, 131_072, 1_000_000];

async fn connect(address: &str) -> Result<Connection, String> {
    let uri = format!("amqp://guest:guest@{address}/%2f");
    Connection::connect(&uri, ConnectionProperties::default())
        .await
        .map_err(why)
}

async fn declare(channel: &Channel, name: &str) -> Outcome {
    let queue = channel
        .queue_declare(
            name.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await;
    queue.map(drop).map_err(why)
}

/// Publishes in confirm mode and returns what the broker said.
async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Result<Confirmation, String> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let confirm = channel
        .basic_publish(exchange.into(), key.into(), options, body, properties)
        .await
        .map_err(why)?;
    confirm.await.map_err(why)
}

async fn confirming_channel(connection: &Connection) -> Result<Channel, String> {
    let channel = connection.create_channel().await.map_err(why)?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .map_err(why)?;
    Ok(channel)
}

async fn get(channel: &Channel, queue: &str) -> Result<BasicGetMessage, String> {
    let message = channel
        .basic_get(queue.into(), BasicGetOptions::default())
        .await
        .map_err(why)?;
    message.ok_or_else(|| format!("{queue} is empty"))
}

fn properties(number: i32) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("number".into(), AMQPValue::LongInt(number));
    headers.insert("text".into(), AMQPValue::LongString("κοινή".into()));
    headers.insert("flag".into(), AMQPValue::Boolean(true));
    BasicProperties::default()
        .with_content_type("application/octet-stream".into())
        .with_correlation_id(format!("c-{number}").into())
        .with_delivery_mode(2)
        .with_priority(3)
        .with_headers(headers)
}

async fn publish_and_consume(address: &str) -> Outcome {
    let (connection, queue) = (connect(address).await?, unique("lapin"));
    let channel = confirming_channel(&connection).await?;
    declare(&channel, &queue).await?;
    for (i, size) in BODY_SIZES.into_iter().enumerate() {
        let body = vec![i as u8; size];
        same(
            "confirm",
            publish(&channel, "", &queue, &body, properties(i as i32)).await?,
            Confirmation::Ack(None),
        )?;
    }
    let options = BasicConsumeOptions::default();
    let mut consumer = channel
        .basic_consume(
            queue.as_str().into(),
            "tag".into(),
            options,
            FieldTable::default(),
        )
        .await
        .map_err(why)?;
    for (i, size) in BODY_SIZES.into_iter().enumerate() {
        let delivery: Delivery = consumer
            .next()
            .await
            .ok_or("the consumer ended")?
            .map_err(why)?;
        same("size", delivery.data.len(), size)?;
        same(
            "body",
            delivery.data.iter().all(|byte| *byte == i as u8),
            true,
        )?;
        same("properties", &delivery.properties, &properties(i as i32))?;
        delivery
            .ack(BasicAckOptions::default())
            .await
            .map_err(why)?;
    }
    channel
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .map_err(why)?;
    connection.close(200, "done".into()).await.map_err(why)
}

/// A rejected message comes back first, marked as redelivered; an acknowledged one does not come back.
async fn settle(address: &str) -> Outcome {
    let (connection, queue) = (connect(address).await?, unique("lapin-settle"));
    let channel = confirming_channel(&connection).await?;
    declare(&channel, &queue).await?;
    for body in [b"one", b"two"] {
        publish(&channel, "", &queue, body, BasicProperties::default()).await?;
    }
    let first = get(&channel, &queue).await?;
    same(
        "first",
        (first.data.as_slice(), first.redelivered),
        (&b"one"[..], false),
    )?;
    first
        .nack(BasicNackOptions {
            requeue: true,
            ..Default::default()
        })
        .await
        .map_err(why)?;
    let again = get(&channel, &queue).await?;
    same(
        "again",
        (again.data.as_slice(), again.redelivered),
        (&b"one"[..], true),
    )?;
    again.ack(BasicAckOptions::default()).await.map_err(why)?;
    let second = get(&channel, &queue).await?;
    same("second", second.data.as_slice(), &b"two"[..])?;
    second
        .reject(BasicRejectOptions { requeue: false })
        .await
        .map_err(why)?;
    let empty = channel
        .basic_get(queue.as_str().into(), BasicGetOptions::default())
        .await
        .map_err(why)?;
    same("empty", empty.is_none(), true)
}

/// With a prefetch of 2 the third message arrives only after an acknowledgement.
async fn prefetch(address: &str) -> Outcome {
    let (connection, queue) = (connect(address).await?, unique("lapin-prefetch"));
    let channel = confirming_channel(&connection).await?;
    declare(&channel, &queue).await?;
    for _ in 0..3 {
        publish(&channel, "", &queue, b"x", BasicProperties::default()).await?;
    }
    channel
        .basic_qos(2, BasicQosOptions::default())
        .await
        .map_err(why)?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel
        .basic_consume(
            queue.as_str().into(),
            "tag".into(),
            options,
            FieldTable::default(),
        )
        .await
        .map_err(why)?;
    let first = consumer.next().await.ok_or("ended")?.map_err(why)?;
    let _second = consumer.next().await.ok_or("ended")?.map_err(why)?;
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), consumer.next()).await;
    same("third before the ack", early.is_err(), true)?;
    first.ack(BasicAckOptions::default()).await.map_err(why)?;
    consumer.next().await.ok_or("ended")?.map(drop).map_err(why)
}

/// One message through each exchange type reaches the queue bound for it and no other.
async fn exchanges(address: &str) -> Outcome {
    let connection = connect(address).await?;
    let channel = confirming_channel(&connection).await?;
    let kinds = [
        (ExchangeKind::Direct, "red", "red", "blue"),
        (ExchangeKind::Topic, "a.*.#", "a.b.c.d", "b.a"),
        (ExchangeKind::Fanout, "", "any", ""),
    ];
    for (kind, binding, hit, miss) in kinds {
        let (exchange, queue) = (unique("lapin-x"), unique("lapin-q"));
        let options = ExchangeDeclareOptions {
            auto_delete: true,
            ..Default::default()
        };
        channel
            .exchange_declare(
                exchange.as_str().into(),
                kind.clone(),
                options,
                FieldTable::default(),
            )
            .await
            .map_err(why)?;
        declare(&channel, &queue).await?;
        let (q, x) = (queue.as_str().into(), exchange.as_str().into());
        channel
            .queue_bind(
                q,
                x,
                binding.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(why)?;
        same(
            "routed",
            publish(&channel, &exchange, hit, b"hit", properties(1)).await?,
            Confirmation::Ack(None),
        )?;
        if !miss.is_empty() {
            let confirm = publish(&channel, &exchange, miss, b"miss", properties(1)).await?;
            same(
                "returned",
                matches!(confirm, Confirmation::Ack(Some(_))),
                true,
            )?;
        }
        let message = get(&channel, &queue).await?;
        same("exchange", message.exchange.as_str(), exchange.as_str())?;
        same("key", message.routing_key.as_str(), hit)?;
        channel
            .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
            .await
            .map_err(why)?;
    }
    Ok(())
}

/// A mandatory message that no queue gets comes back with 312 before its confirm.
async fn returned(address: &str) -> Outcome {
    let connection = connect(address).await?;
    let channel = confirming_channel(&connection).await?;
    match publish(
        &channel,
        "",
        &unique("nobody"),
        b"lost",
        BasicProperties::default(),
    )
    .await?
    {
        Confirmation::Ack(Some(message)) => {
            same("code", message.reply_code, 312)?;
            same("body", message.delivery.data.as_slice(), &b"lost"[..])
        }
        other => Err(format!("want a returned message, got {other:?}")),
    }
}

/// Passes if the call was refused with this AMQP reply code.
fn refused<T>(result: lapin::Result<T>, code: u16) -> Outcome {
    let error = result.err().ok_or("accepted")?;
    match error.kind() {
        ErrorKind::ProtocolError(error) => same("code", error.get_id(), code),
        _ => Err(format!("want code {code}, got {error}")),
    }
}

async fn error_missing_queue(address: &str) -> Outcome {
    let connection = connect(address).await?;
    let channel = connection.create_channel().await.map_err(why)?;
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    refused(
        channel
            .queue_declare(
                unique("nobody").as_str().into(),
                options,
                FieldTable::default(),
            )
            .await,
        404,
    )?;
    // The connection survives: only the channel is closed.
    connection.create_channel().await.map(drop).map_err(why)
}

async fn error_redeclared(address: &str) -> Outcome {
    let (connection, queue) = (connect(address).await?, unique("lapin-twice"));
    let channel = connection.create_channel().await.map_err(why)?;
    declare(&channel, &queue).await?;
    let options = QueueDeclareOptions {
        durable: true,
        auto_delete: true,
        ..Default::default()
    };
    refused(
        channel
            .queue_declare(queue.as_str().into(), options, FieldTable::default())
            .await,
        406,
    )
}

async fn error_login(address: &str) -> Outcome {
    let uri = format!("amqp://guest:wrong@{address}/%2f");
    refused(
        Connection::connect(&uri, ConnectionProperties::default()).await,
        403,
    )
}

#[tokio::main]
async fn main() -> ExitCode {
    let address = checks::address("KOINE_AMQP", "127.0.0.1:5672");
    let address = address.as_str();
    let mut checks = Checks::default();
    checks
        .run("publish-consume-confirm", publish_and_consume(address))
        .await;
    checks.run("settle", settle(address)).await;
    checks.run("prefetch", prefetch(address)).await;
    checks.run("exchanges", exchanges(address)).await;
    checks.run("returned", returned(address)).await;
    checks
        .run("error-missing-queue", error_missing_queue(address))
        .await;
    checks
        .run("error-redeclared", error_redeclared(address))
        .await;
    checks.run("error-login", error_login(address)).await;
    checks.finish()
}
