"""MQTT 3.1.1 and 5 with paho-mqtt: QoS 0 to 2, retained, will, sessions, shared, properties, errors.

python main.py HOST:PORT   (or KOINE_MQTT=HOST:PORT; usual: 127.0.0.1:1883)
"""

import os
import queue
import sys
import threading
import time

sys.path.append(os.path.join(os.path.dirname(__file__), ".."))

from checks import TIMEOUT_S, address, host_and_port, run, same, unique, wait_until  # noqa: E402
from paho.mqtt import client as mqtt  # noqa: E402
from paho.mqtt.packettypes import PacketTypes  # noqa: E402
from paho.mqtt.properties import Properties  # noqa: E402
from paho.mqtt.subscribeoptions import SubscribeOptions  # noqa: E402

HOST, PORT = host_and_port(address("KOINE_MQTT", "127.0.0.1:1883"))
SILENCE_S = 0.4


def properties(packet, **values):
    made = Properties(packet)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Client:
    """A paho client whose events wait in queues."""

    def __init__(self, version=mqtt.MQTTv5, client_id=None, clean=True, expiry_s=0, will=None, connect=None, port=PORT,
                 transport="tcp"):
        settings = {} if version == mqtt.MQTTv5 else {"clean_session": clean}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id or unique("paho"), protocol=version,
                                  transport=transport, reconnect_on_failure=False, **settings)
        if transport == "websockets":
            self.client.ws_set_options(path="/mqtt")
        self.messages, self.subscribed, self.disconnected = queue.Queue(), queue.Queue(), queue.Queue()
        self.connected, self.connack = threading.Event(), None
        self.client.on_message = lambda _client, _data, message: self.messages.put(message)
        self.client.on_subscribe = lambda _client, _data, _mid, reasons, _properties: self.subscribed.put(reasons)
        self.client.on_disconnect = lambda _client, _data, _flags, reason, _properties: self.disconnected.put(reason)
        self.client.on_connect = self.on_connect
        if will:
            self.client.will_set(**will)
        if version == mqtt.MQTTv5:
            settings = {"clean_start": clean, "properties": properties(
                PacketTypes.CONNECT, SessionExpiryInterval=expiry_s, **(connect or {}))}
        else:
            settings = {}
        self.client.connect(HOST, port, 30, **settings)
        self.client.loop_start()
        if not self.connected.wait(TIMEOUT_S):
            raise AssertionError("no CONNACK")

    def on_connect(self, _client, _data, flags, reason, connack_properties):
        self.connack = (flags.session_present, reason.value, connack_properties)
        self.connected.set()

    def subscribe(self, *filters, **settings):
        """Each filter is (name, qos) or (name, SubscribeOptions); returns the reason codes."""
        self.client.subscribe(list(filters), **settings)
        return [reason.value for reason in self.subscribed.get(timeout=TIMEOUT_S)]

    def publish(self, topic, body, qos=1, retain=False, **values):
        made = properties(PacketTypes.PUBLISH, **values) if values else None
        self.client.publish(topic, body, qos, retain, made).wait_for_publish(TIMEOUT_S)

    def message(self):
        return self.messages.get(timeout=TIMEOUT_S)

    def silent(self):
        time.sleep(SILENCE_S)
        return self.messages.empty()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def quality(version, qos):
    topic, client = unique("paho/quality"), Client(version)
    same("granted", client.subscribe((topic, qos)), [qos])
    for body in (b"", b"\0", bytes(range(256)), b"\x09" * 300_000):
        client.publish(topic, body, qos)
        message = client.message()
        same("message", (message.topic, message.payload, message.qos, message.retain), (topic, body, qos, False))
    same("nothing twice", client.silent(), True)
    client.close()


def many_in_flight():
    topic, reader, writer = unique("paho/many"), Client(), Client()
    reader.subscribe((topic, 2))
    sent = [writer.client.publish(topic, str(i), 2) for i in range(200)]
    for info in sent:
        info.wait_for_publish(TIMEOUT_S)
    same("in order", [int(reader.message().payload) for _ in range(200)], list(range(200)))


def wildcards():
    root, client = unique("paho-wild"), Client()
    same("granted", client.subscribe((f"{root}/+/tail/#", 1), (f"{root}/exact", 2)), [1, 2])
    for topic in ("a/tail", "a/b/tail", "b/tail/x/y", "exact", "other"):
        client.publish(f"{root}/{topic}", topic)
    got = [client.message().payload.decode() for _ in range(3)]
    same("matched", got, ["a/tail", "b/tail/x/y", "exact"])
    same("no more", client.silent(), True)
    client.client.unsubscribe(f"{root}/exact")
    client.publish(f"{root}/exact", "after")
    same("unsubscribed", client.silent(), True)


def retained():
    root, client = unique("paho-retained"), Client()
    for name in ("a", "b"):
        client.publish(f"{root}/{name}", name, retain=True)
    late = Client()
    late.subscribe((f"{root}/+", 1))
    got = [late.message() for _ in range(2)]
    same("retained", sorted((m.payload, m.retain) for m in got), [(b"a", True), (b"b", True)])
    client.publish(f"{root}/a", b"", retain=True)
    late.message()  # the clearing message reaches present subscribers as an ordinary one
    later = Client()
    later.subscribe((f"{root}/#", SubscribeOptions(qos=1, retainHandling=0)))
    same("one left", later.message().payload, b"b")
    never = Client()
    never.subscribe((f"{root}/#", SubscribeOptions(qos=1, retainHandling=2)))
    same("retain handling 2", never.silent() and later.silent(), True)


def will():
    topic, reader = unique("paho/will"), Client()
    reader.subscribe((topic, 1))
    mortal = Client(will={"topic": topic, "payload": b"gone", "qos": 1})
    mortal.client.on_disconnect = None
    mortal.client.loop_stop()
    mortal.client._sock_close()  # the library has no call that drops the connection without DISCONNECT
    same("will", reader.message().payload, b"gone")
    polite = Client(will={"topic": topic, "payload": b"not sent", "qos": 1})
    polite.close()
    same("no will after DISCONNECT", reader.silent(), True)


def session(version):
    topic, client_id = unique("paho/session"), unique("lasting")
    first = Client(version, client_id, clean=False, expiry_s=3600)
    same("no session yet", first.connack[0], False)
    first.subscribe((topic, 2))
    first.close()
    writer = Client()
    for qos, name in ((1, "a"), (2, "b"), (1, "c"), (2, "d")):
        writer.publish(topic, name, qos)
    again = Client(version, client_id, clean=False, expiry_s=3600)
    same("session present", again.connack[0], True)
    waiting = [(message.qos, message.payload) for message in (again.message() for _ in range(4))]
    # The order is promised for each quality of service by itself (MQTT 5 section 4.6).
    same("waiting", sorted(waiting, key=lambda item: item[0]), [(1, b"a"), (1, b"c"), (2, b"b"), (2, b"d")])
    again.close()
    fresh = Client(version, client_id, clean=True)
    same("clean start", fresh.connack[0], False)


def take_over():
    client_id = unique("same-id")
    first = Client(client_id=client_id)
    Client(client_id=client_id)
    same("reason", first.disconnected.get(timeout=TIMEOUT_S).value, 0x8E)
    first.close()


def shared():
    topic, one, two, other = unique("paho-shared"), Client(), Client(), Client()
    for member in (one, two):
        member.subscribe((f"$share/g/{topic}", 1))
    other.subscribe((topic, 1))
    for i in range(20):
        other.publish(topic, bytes([i]))
    wait_until("all", lambda: time.sleep(0.05) or one.messages.qsize() + two.messages.qsize() >= 20)
    same("no copies", one.silent() or one.messages.qsize() + two.messages.qsize(), 20)
    got = [box.get().payload[0] for box in (one.messages, two.messages) for _ in range(box.qsize())]
    same("each once", sorted(got), list(range(20)))
    same("an ordinary subscriber gets all", other.messages.qsize(), 20)


def all_properties():
    topic, client = unique("paho/properties"), Client()
    client.subscribe((topic, SubscribeOptions(qos=1)), properties=properties(
        PacketTypes.SUBSCRIBE, SubscriptionIdentifier=77))
    user = [("k", "1"), ("κ", "ü"), ("k", "2")]
    client.publish(topic, "text", PayloadFormatIndicator=1, MessageExpiryInterval=60, ContentType="text/plain",
                   ResponseTopic="answers/here", CorrelationData=b"\0\1\2", UserProperty=user)
    got = client.message().properties
    same("user properties", got.UserProperty, user)
    same("rest", (got.PayloadFormatIndicator, got.ContentType, got.ResponseTopic, got.CorrelationData),
         (1, "text/plain", "answers/here", b"\0\1\2"))
    same("subscription", got.SubscriptionIdentifier, [77])
    same("expiry", 55 <= got.MessageExpiryInterval <= 60, True)


def topic_alias():
    topic, client = unique("paho/alias"), Client()
    client.subscribe((topic, 1))
    client.publish(topic, "named", TopicAlias=1)
    client.publish("", "by alias", TopicAlias=1)
    same("both", [client.message().payload for _ in range(2)], [b"named", b"by alias"])


def no_local():
    topic, client = unique("paho/local"), Client()
    client.subscribe((topic, SubscribeOptions(qos=1, noLocal=True)))
    client.publish(topic, "own")
    same("own message", client.silent(), True)
    Client().publish(topic, "other's")
    same("other's message", client.message().payload, b"other's")


def receive_maximum():
    """A client that takes two at a time still gets everything, in order."""
    topic, reader, writer = unique("paho/flow"), Client(connect={"ReceiveMaximum": 2}), Client()
    reader.subscribe((topic, 2))
    for i in range(20):
        writer.publish(topic, str(i), 2)
    same("in order", [int(reader.message().payload) for _ in range(20)], list(range(20)))


def error_topic_alias():
    """An alias above what the broker allows ends the connection with 0x94 (MQTT 5 §3.3.2.3.4)."""
    client = Client()
    limit = getattr(client.connack[2], "TopicAliasMaximum", 0)
    client.client.publish(unique("paho/alias"), "x", 0, properties=properties(
        PacketTypes.PUBLISH, TopicAlias=min(limit + 1, 65_535)))
    same("reason", client.disconnected.get(timeout=TIMEOUT_S).value, 0x94)
    client.close()


def error_filter():
    """A malformed shared filter is refused, by the code in SUBACK or by ending the connection."""
    client, box = Client(), queue.Queue()
    client.client.on_subscribe = lambda _client, _data, _mid, reasons, _properties: box.put(reasons[0].value)
    client.client.on_disconnect = lambda _client, _data, _flags, reason, _properties: box.put(reason.value)
    client.client.subscribe([("$share/group-only", 1)])
    same("refused", box.get(timeout=TIMEOUT_S) >= 0x80, True)
    client.close()


run([(f"publish-subscribe-v{name}-qos-{qos}", lambda version=version, qos=qos: quality(version, qos))
     for name, version in (("3.1.1", mqtt.MQTTv311), ("5", mqtt.MQTTv5)) for qos in (0, 1, 2)]
    + [("many-in-flight", many_in_flight), ("wildcards", wildcards), ("retained", retained), ("will", will),
       ("session-v3.1.1", lambda: session(mqtt.MQTTv311)), ("session-v5", lambda: session(mqtt.MQTTv5)),
       ("take-over", take_over), ("shared", shared), ("properties", all_properties), ("topic-alias", topic_alias),
       ("no-local", no_local), ("receive-maximum", receive_maximum), ("error-topic-alias", error_topic_alias),
       ("error-filter", error_filter)])
