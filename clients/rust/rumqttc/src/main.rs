//! MQTT 3.1.1 and 5 with the `rumqttc` crate: QoS 0 to 2, retained, will, sessions, shared subscriptions, errors.
//!
//! `cargo run -p client-rumqttc -- HOST:PORT` (or `KOINE_MQTT=HOST:PORT`; usual: 127.0.0.1:1883).

use std::process::ExitCode;
use std::time::Duration;

use checks::{same, unique, why, Checks, Outcome};
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, Filter, LastWill, Packet, Publish, PublishProperties,
};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};

const QUALITIES: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
/// How long a check waits to see that nothing comes.
const SILENCE: Duration = Duration::from_millis(300);

/// A connection and the loop that drives it.
struct Client {
    client: AsyncClient,
    events: EventLoop,
}

fn options(address: &str, id: &str) -> MqttOptions {
    let (host, port) = checks::host_and_port(address);
    let mut options = MqttOptions::new(id, host, port);
    options.set_keep_alive(Duration::from_secs(30));
    options.set_max_packet_size(Some(16 << 20));
    options
}

impl Client {
    /// Connects; the answer says whether the broker had a session.
    async fn connect(options: MqttOptions) -> Result<(Client, bool), String> {
        let (client, events) = AsyncClient::new(options, 64);
        let mut this = Client { client, events };
        match this.packet().await? {
            Packet::ConnAck(connack) => Ok((this, connack.session_present)),
            other => Err(format!("want CONNACK, got {other:?}")),
        }
    }

    async fn packet(&mut self) -> Result<Packet, String> {
        loop {
            if let Event::Incoming(packet) = self.events.poll().await.map_err(why)? {
                return Ok(packet);
            }
        }
    }

    /// Drives the connection until a packet of interest arrives.
    async fn until<T>(&mut self, pick: impl Fn(Packet) -> Option<T>) -> Result<T, String> {
        loop {
            if let Some(found) = pick(self.packet().await?) {
                return Ok(found);
            }
        }
    }

    async fn subscribe(&mut self, filter: &str, qos: QoS) -> Outcome {
        self.client.subscribe(filter, qos).await.map_err(why)?;
        self.until(|packet| matches!(packet, Packet::SubAck(_)).then_some(()))
            .await
    }

    /// Publishes and waits for the acknowledgement that the quality asks for.
    async fn publish(&mut self, topic: &str, qos: QoS, retain: bool, body: &[u8]) -> Outcome {
        self.client
            .publish(topic, qos, retain, body.to_vec())
            .await
            .map_err(why)?;
        match qos {
            QoS::AtMostOnce => loop {
                if let Event::Outgoing(rumqttc::Outgoing::Publish(_)) =
                    self.events.poll().await.map_err(why)?
                {
                    return Ok(());
                }
            },
            QoS::AtLeastOnce => {
                self.until(|packet| matches!(packet, Packet::PubAck(_)).then_some(()))
                    .await
            }
            QoS::ExactlyOnce => {
                self.until(|packet| matches!(packet, Packet::PubComp(_)).then_some(()))
                    .await
            }
        }
    }

    async fn message(&mut self) -> Result<Publish, String> {
        self.until(|packet| {
            if let Packet::Publish(publish) = packet {
                Some(publish)
            } else {
                None
            }
        })
        .await
    }

    async fn silent(&mut self) -> bool {
        tokio::time::timeout(SILENCE, self.message()).await.is_err()
    }
}

async fn fresh(address: &str) -> Result<Client, String> {
    Client::connect(options(address, &unique("rumqttc")))
        .await
        .map(|(client, _)| client)
}

async fn quality(address: &str, qos: QoS) -> Outcome {
    let topic = unique("rumqttc/quality");
    let (mut reader, mut writer) = (fresh(address).await?, fresh(address).await?);
    reader.subscribe(&topic, qos).await?;
    for size in [0usize, 1, 1_000, 200_000] {
        writer.publish(&topic, qos, false, &vec![9; size]).await?;
        let message = reader.message().await?;
        same("size", message.payload.len(), size)?;
        same("qos", message.qos, qos)?;
    }
    same("nothing twice", reader.silent().await, true)
}

async fn wildcards(address: &str) -> Outcome {
    let root = unique("rumqttc-wild");
    let (mut reader, mut writer) = (fresh(address).await?, fresh(address).await?);
    reader
        .subscribe(&format!("{root}/+/tail/#"), QoS::AtLeastOnce)
        .await?;
    for topic in ["a/tail", "a/b/tail", "b/tail/x/y", "other"] {
        writer
            .publish(
                &format!("{root}/{topic}"),
                QoS::AtLeastOnce,
                false,
                topic.as_bytes(),
            )
            .await?;
    }
    same("first", reader.message().await?.payload.as_ref(), b"a/tail")?;
    same(
        "second",
        reader.message().await?.payload.as_ref(),
        b"b/tail/x/y",
    )?;
    same("no more", reader.silent().await, true)
}

async fn retained(address: &str) -> Outcome {
    let root = unique("rumqttc-retained");
    let topic = format!("{root}/state");
    let mut writer = fresh(address).await?;
    writer
        .publish(&topic, QoS::AtLeastOnce, true, b"on")
        .await?;
    let mut reader = fresh(address).await?;
    reader
        .subscribe(&format!("{root}/#"), QoS::AtLeastOnce)
        .await?;
    let message = reader.message().await?;
    same(
        "retained",
        (message.payload.as_ref(), message.retain),
        (&b"on"[..], true),
    )?;
    writer.publish(&topic, QoS::AtLeastOnce, true, b"").await?;
    let mut late = fresh(address).await?;
    late.subscribe(&topic, QoS::AtLeastOnce).await?;
    same("cleared", late.silent().await, true)
}

async fn will(address: &str) -> Outcome {
    let topic = unique("rumqttc/will");
    let mut reader = fresh(address).await?;
    reader.subscribe(&topic, QoS::AtLeastOnce).await?;
    let mut mortal = options(address, &unique("mortal"));
    mortal.set_last_will(LastWill::new(
        topic.as_str(),
        &b"gone"[..],
        QoS::AtLeastOnce,
        false,
        None,
    ));
    let (client, _) = Client::connect(mortal).await?;
    drop(client); // no DISCONNECT: the socket just closes
    same("will", reader.message().await?.payload.as_ref(), b"gone")
}

fn lasting(address: &str, id: &str) -> MqttOptions {
    let mut options = options(address, id);
    options.set_clean_start(false);
    options.set_connect_properties(ConnectProperties {
        session_expiry_interval: Some(3_600),
        receive_maximum: None,
        max_packet_size: Some(16 << 20),
        topic_alias_max: None,
        request_response_info: None,
        request_problem_info: None,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    });
    options
}

/// What is published while a subscriber is away waits in its session.
async fn session(address: &str) -> Outcome {
    let (topic, id) = (unique("rumqttc/session"), unique("lasting"));
    let (mut reader, present) = Client::connect(lasting(address, &id)).await?;
    same("no session yet", present, false)?;
    reader.subscribe(&topic, QoS::ExactlyOnce).await?;
    reader.client.disconnect().await.map_err(why)?;
    while reader.events.poll().await.is_ok() {}
    let mut writer = fresh(address).await?;
    for (qos, body) in [(QoS::AtLeastOnce, b"1"), (QoS::ExactlyOnce, b"2")] {
        writer.publish(&topic, qos, false, body).await?;
    }
    let (mut reader, present) = Client::connect(lasting(address, &id)).await?;
    same("session present", present, true)?;
    same("first", reader.message().await?.payload.as_ref(), b"1")?;
    same("second", reader.message().await?.payload.as_ref(), b"2")
}

/// Each message reaches one member of the group.
async fn shared(address: &str) -> Outcome {
    let topic = unique("rumqttc-shared");
    let filter = format!("$share/g/{topic}");
    let (mut one, mut two, mut writer) = (
        fresh(address).await?,
        fresh(address).await?,
        fresh(address).await?,
    );
    one.subscribe(&filter, QoS::AtLeastOnce).await?;
    two.subscribe(&filter, QoS::AtLeastOnce).await?;
    for i in 0..10u8 {
        writer
            .publish(&topic, QoS::AtLeastOnce, false, &[i])
            .await?;
    }
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let message = tokio::select! { message = one.message() => message?, message = two.message() => message? };
        seen.push(message.payload[0]);
    }
    seen.sort_unstable();
    same("each once", seen, (0..10).collect())?;
    same("no copies", one.silent().await && two.silent().await, true)
}

async fn properties(address: &str) -> Outcome {
    let topic = unique("rumqttc/properties");
    let (mut reader, mut writer) = (fresh(address).await?, fresh(address).await?);
    reader.subscribe(&topic, QoS::AtLeastOnce).await?;
    let sent = PublishProperties {
        payload_format_indicator: Some(1),
        response_topic: Some("answers/here".to_owned()),
        correlation_data: Some(vec![1, 2, 3].into()),
        content_type: Some("text/plain".to_owned()),
        user_properties: vec![
            ("k".into(), "1".into()),
            ("κ".into(), "ü".into()),
            ("k".into(), "2".into()),
        ],
        ..Default::default()
    };
    let client = writer.client.clone();
    client
        .publish_with_properties(&topic, QoS::AtLeastOnce, false, "text", sent.clone())
        .await
        .map_err(why)?;
    writer
        .until(|packet| matches!(packet, Packet::PubAck(_)).then_some(()))
        .await?;
    same("properties", reader.message().await?.properties, Some(sent))
}

/// The 3.1.1 client of the same crate.
async fn version_3(address: &str) -> Outcome {
    use rumqttc as v4;
    let (host, port) = checks::host_and_port(address);
    let (client, mut events) =
        v4::AsyncClient::new(v4::MqttOptions::new(unique("rumqttc4"), host, port), 16);
    let topic = unique("rumqttc/v4");
    client
        .subscribe(&topic, v4::QoS::ExactlyOnce)
        .await
        .map_err(why)?;
    loop {
        match events.poll().await.map_err(why)? {
            v4::Event::Incoming(v4::Packet::SubAck(_)) => {
                client
                    .publish(&topic, v4::QoS::ExactlyOnce, false, "three")
                    .await
                    .map_err(why)?;
            }
            v4::Event::Incoming(v4::Packet::Publish(publish)) => {
                return same("body", publish.payload.as_ref(), b"three");
            }
            _ => {}
        }
    }
}

/// A shared subscription must not ask for no-local (MQTT 5 §3.8.3.1): the broker ends the connection.
async fn error_shared_no_local(address: &str) -> Outcome {
    let mut client = fresh(address).await?;
    let mut filter = Filter::new(format!("$share/g/{}", unique("rumqttc")), QoS::AtLeastOnce);
    filter.nolocal = true;
    client.client.subscribe_many([filter]).await.map_err(why)?;
    match client
        .until(|packet| matches!(packet, Packet::SubAck(_)).then_some(()))
        .await
    {
        Err(reason) if reason.contains("ProtocolError") => Ok(()),
        other => Err(format!(
            "want a DISCONNECT with ProtocolError, got {other:?}"
        )),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let address = checks::address("KOINE_MQTT", "127.0.0.1:1883");
    let address = address.as_str();
    let mut checks = Checks::default();
    for (i, qos) in QUALITIES.into_iter().enumerate() {
        checks
            .run(&format!("publish-subscribe-qos-{i}"), quality(address, qos))
            .await;
    }
    checks.run("wildcards", wildcards(address)).await;
    checks.run("retained", retained(address)).await;
    checks.run("will", will(address)).await;
    checks.run("session", session(address)).await;
    checks.run("shared", shared(address)).await;
    checks.run("properties", properties(address)).await;
    checks.run("version-3.1.1", version_3(address)).await;
    checks
        .run("error-shared-no-local", error_shared_no_local(address))
        .await;
    checks.finish()
}
