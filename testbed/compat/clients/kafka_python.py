"""kafka-python. README.md says what the verbs are."""

import os
import sys
import threading

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic

TIMEOUT = 30


def settings(**more):
    conf = {"bootstrap_servers": os.environ["BOOTSTRAP"]}
    if "SASL_MECHANISM" in os.environ:
        conf |= {"security_protocol": "SASL_SSL", "sasl_mechanism": os.environ["SASL_MECHANISM"],
                 "sasl_plain_username": os.environ["SASL_USERNAME"], "sasl_plain_password": os.environ["SASL_PASSWORD"],
                 "ssl_cafile": os.environ["CA_FILE"]}
    return conf | more


def send(producer, topic, values, headers=None):
    futures = [producer.send(topic, value.encode(), f"k-{i}".encode(), headers=headers) for i, value in enumerate(values)]
    producer.flush(TIMEOUT)
    for future in futures:
        future.get(TIMEOUT)


def version():
    print(f"kafka-python {kafka.__version__}")


def produce(prefix, count, *codecs):
    for codec in codecs:
        producer = KafkaProducer(**settings(acks="all", compression_type=None if codec == "none" else codec))
        send(producer, f"{prefix}-{codec}", [f"{codec}-{i:05}" for i in range(int(count))], [("codec", codec.encode())])
        producer.close()


def consume(group, topic):
    consumer = KafkaConsumer(topic, **settings(group_id=group, auto_offset_reset="earliest", session_timeout_ms=6000,
                                               heartbeat_interval_ms=500,
                                               isolation_level=os.environ.get("ISOLATION", "read_uncommitted")))
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        for records in consumer.poll(timeout_ms=100).values():
            for record in records:
                print(record.value.decode(), flush=True)
    consumer.close()


def transact(topic, transactional_id):
    producer = KafkaProducer(**settings(transactional_id=transactional_id))
    producer.init_transactions()
    producer.begin_transaction()
    send(producer, topic, [f"aborted-{i}" for i in range(10)])
    producer.abort_transaction()
    producer.begin_transaction()
    send(producer, topic, [f"committed-{i}" for i in range(10)])
    producer.commit_transaction()
    producer.close()


def admin(topic):
    client = KafkaAdminClient(**settings())
    client.create_topics([NewTopic(topic, 3, 1)])
    assert topic in client.list_topics()
    assert len(client.describe_topics([topic])[0]["partitions"]) == 3
    client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "123456"})])
    assert "123456" in str(client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
    client.create_partitions({topic: NewPartitions(5)})
    assert len(client.describe_topics([topic])[0]["partitions"]) == 5
    client.list_groups()
    client.describe_cluster()
    client.delete_topics([topic])
    client.close()


if __name__ == "__main__":
    {f.__name__: f for f in (version, produce, consume, transact, admin)}[sys.argv[1]](*sys.argv[2:])
