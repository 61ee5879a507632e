"""confluent-kafka: librdkafka as its wheel ships it. README.md says what the verbs are."""

import os
import sys
import threading

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions,
                                   NewTopic)

TIMEOUT = 30


def settings(**more):
    conf = {"bootstrap.servers": os.environ["BOOTSTRAP"]}
    if "SASL_MECHANISM" in os.environ:
        conf |= {"security.protocol": "SASL_SSL", "sasl.mechanism": os.environ["SASL_MECHANISM"],
                 "sasl.username": os.environ["SASL_USERNAME"], "sasl.password": os.environ["SASL_PASSWORD"],
                 "ssl.ca.location": os.environ["CA_FILE"]}
    return conf | {k.replace("_", "."): v for k, v in more.items()}


def send(producer, topic, values, **kw):
    failed = []
    for i, value in enumerate(values):
        producer.produce(topic, value, f"k-{i}", on_delivery=lambda err, _: err and failed.append(err), **kw)
        producer.poll(0)
    if producer.flush(TIMEOUT) or failed:
        raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))


def version():
    print(f"confluent-kafka {confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})")


def produce(prefix, count, *codecs):
    for codec in codecs:
        producer = Producer(settings(compression_type=codec, acks="all"))
        send(producer, f"{prefix}-{codec}", (f"{codec}-{i:05}" for i in range(int(count))), headers={"codec": codec})


def consume(group, topic):
    conf = settings(group_id=group, auto_offset_reset="earliest", isolation_level=os.environ.get("ISOLATION", "read_uncommitted"))
    if os.environ.get("GROUP_PROTOCOL") == "consumer":
        conf["group.protocol"] = "consumer"  # the broker says the timeouts
    else:
        conf |= {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
    consumer = Consumer(conf)
    consumer.subscribe([topic])
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        message = consumer.poll(0.1)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        print(message.value().decode(), flush=True)
    consumer.close()


def transact(topic, transactional_id):
    producer = Producer(settings(transactional_id=transactional_id))
    producer.init_transactions(TIMEOUT)
    producer.begin_transaction()
    send(producer, topic, (f"aborted-{i}" for i in range(10)))
    producer.abort_transaction(TIMEOUT)
    producer.begin_transaction()
    send(producer, topic, (f"committed-{i}" for i in range(10)))
    producer.commit_transaction(TIMEOUT)


def one(futures):
    return next(iter(futures.values())).result(TIMEOUT)


def admin(topic):
    client = AdminClient(settings())
    one(client.create_topics([NewTopic(topic, 3, 1)]))
    assert len(client.list_topics(topic, timeout=TIMEOUT).topics[topic].partitions) == 3
    entry = ConfigEntry("retention.ms", "123456", incremental_operation=AlterConfigOpType.SET)
    one(client.incremental_alter_configs([ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])]))
    assert one(client.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))["retention.ms"].value == "123456"
    one(client.create_partitions([NewPartitions(topic, 5)]))
    assert len(client.describe_topics(confluent_kafka.TopicCollection([topic]))[topic].result(TIMEOUT).partitions) == 5
    assert client.list_consumer_groups().result(TIMEOUT).errors == []
    assert client.describe_cluster().result(TIMEOUT).controller is not None
    one(client.delete_topics([topic]))


if __name__ == "__main__":
    {f.__name__: f for f in (version, produce, consume, transact, admin)}[sys.argv[1]](*sys.argv[2:])
