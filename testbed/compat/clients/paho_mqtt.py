"""The MQTT driver of Eclipse Paho for Python; see README.md."""
import os
import sys
import threading
from importlib.metadata import version

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

HOST, PORT = os.environ["MQTT_HOST"], int(os.environ["MQTT_PORT"])
PATIENCE = 30


class Client:
    """A connected client that keeps what it is sent."""

    def __init__(self, level, name, clean=True):
        self.five, self.got = level == "5", []
        self.changed = threading.Condition()
        self.up = threading.Event()
        self.acked = threading.Event()
        more = {} if self.five else {"clean_session": clean}
        self.c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5 if self.five else mqtt.MQTTv311, **more)
        self.c.max_inflight_messages_set(100)
        self.c.on_connect = self._connected
        self.c.on_message = self._message
        self.c.on_subscribe = lambda *_: self.acked.set()
        if self.five:
            props = Properties(PacketTypes.CONNECT)
            props.SessionExpiryInterval = 0 if clean else 600
            self.c.connect(HOST, PORT, clean_start=clean, properties=props)
        else:
            self.c.connect(HOST, PORT)
        self.c.loop_start()
        assert self.up.wait(PATIENCE), "no CONNACK"

    def _connected(self, client, userdata, flags, reason, properties):
        assert reason == 0, reason
        self.present = flags.session_present
        self.up.set()

    def _message(self, client, userdata, m):
        with self.changed:
            self.got.append(m)
            self.changed.notify_all()

    def subscribe(self, topic, qos):
        self.acked.clear()
        self.c.subscribe(topic, options=SubscribeOptions(qos=qos)) if self.five else self.c.subscribe(topic, qos)
        assert self.acked.wait(PATIENCE), "no SUBACK"

    def publish(self, topic, payloads, qos, **more):
        for info in [self.c.publish(topic, p, qos=qos, **more) for p in payloads]:
            info.wait_for_publish(PATIENCE)
            assert info.is_published(), "not acknowledged"

    def wait(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= n, PATIENCE), f"{len(self.got)} messages of {n}"
            return [m.payload.decode() for m in self.got]

    def close(self):
        self.c.disconnect()
        self.c.loop_stop()


def names(n, what):
    return [f"{what}-{i:04d}" for i in range(n)]


def check(level, prefix):
    pub, sub = Client(level, prefix + "-p", clean=False), Client(level, prefix + "-s", clean=False)
    sub.subscribe(prefix + "/t/+", 2)
    for qos in (0, 1, 2):
        pub.publish(f"{prefix}/t/{qos}", names(200, f"q{qos}"), qos)
    got = sub.wait(600)
    for qos in (0, 1, 2):
        assert [g for g in got if g.startswith(f"q{qos}")] == names(200, f"q{qos}"), f"QoS {qos}"
    sub.close()
    pub.publish(f"{prefix}/t/away", names(100, "away"), 2)
    sub = Client(level, prefix + "-s", clean=False)
    assert sub.present, "the session is gone"
    assert sub.wait(100) == names(100, "away"), "what was missed"
    pub.publish(prefix + "/kept", ["state"], 1, retain=True)
    late = Client(level, prefix + "-l")
    late.subscribe(prefix + "/kept", 1)
    late.wait(1)
    assert late.got[0].retain, "no RETAIN"
    if level == "5":
        props = Properties(PacketTypes.PUBLISH)
        props.ContentType, props.ResponseTopic, props.CorrelationData = "text/plain", "answer", b"\x00\x01"
        props.UserProperty = [("b", "1"), ("a", "2")]
        late.subscribe(prefix + "/props", 2)
        pub.publish(prefix + "/props", ["x"], 2, properties=props)
        late.wait(2)
        p = late.got[1].properties
        assert (p.ContentType, p.ResponseTopic, p.CorrelationData, p.UserProperty) == ("text/plain", "answer", b"\x00\x01", [("b", "1"), ("a", "2")]), p
        late.got.clear()
        other = Client(level, prefix + "-o")
        for c in (late, other):
            c.subscribe(f"$share/g/{prefix}/work", 1)
        pub.publish(prefix + "/work", names(100, "job"), 1)
        with late.changed:
            pass
        import time
        end = time.monotonic() + PATIENCE
        while len(late.got) + len(other.got) < 100 and time.monotonic() < end:
            time.sleep(0.01)
        a, b = late.wait(1), other.wait(1)
        assert sorted(a + b) == names(100, "job"), f"{len(a)} and {len(b)} of 100 shared"
        other.close()
    late.close()
    sub.close()
    pub.close()


if sys.argv[1] == "version":
    print("paho-mqtt", version("paho-mqtt"))
else:
    check(sys.argv[2], sys.argv[3])
