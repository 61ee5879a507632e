import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** The Java client; compiled against the oldest version that it is run with. README.md says what the verbs are. */
public class Client {
    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "version" -> System.out.println("Java kafka-clients " + AppInfoParser.getVersion());
            case "produce" -> produce(args[1], Integer.parseInt(args[2]), Arrays.copyOfRange(args, 3, args.length));
            case "consume" -> consume(args[1], args[2]);
            case "transact" -> transact(args[1], args[2]);
            case "admin" -> admin(args[1]);
            default -> throw new IllegalArgumentException("no verb " + args[0]);
        }
    }

    static Properties settings(String... more) {
        Properties p = new Properties();
        p.put("bootstrap.servers", System.getenv("BOOTSTRAP"));
        String mechanism = System.getenv("SASL_MECHANISM");
        if (mechanism != null) {
            String module = mechanism.startsWith("SCRAM") ? "scram.ScramLoginModule" : "plain.PlainLoginModule";
            p.put("security.protocol", "SASL_SSL");
            p.put("sasl.mechanism", mechanism);
            p.put("sasl.jaas.config", String.format("org.apache.kafka.common.security.%s required username=\"%s\" password=\"%s\";",
                    module, System.getenv("SASL_USERNAME"), System.getenv("SASL_PASSWORD")));
            p.put("ssl.truststore.type", "PEM");
            p.put("ssl.truststore.location", System.getenv("CA_FILE"));
        }
        for (int i = 0; i < more.length; i += 2) {
            p.put(more[i], more[i + 1]);
        }
        return p;
    }

    static KafkaProducer<String, String> producer(String... more) {
        return new KafkaProducer<>(settings(more), new StringSerializer(), new StringSerializer());
    }

    static void send(KafkaProducer<String, String> producer, String topic, int count, String format, String codec) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            ProducerRecord<String, String> record = new ProducerRecord<>(topic, "k-" + i, String.format(format, i));
            if (codec != null) {
                record.headers().add("codec", codec.getBytes(StandardCharsets.UTF_8));
            }
            sent.add(producer.send(record));
        }
        for (Future<RecordMetadata> f : sent) {
            f.get();
        }
    }

    static void produce(String prefix, int count, String[] codecs) throws Exception {
        for (String codec : codecs) {
            try (KafkaProducer<String, String> producer = producer("compression.type", codec)) {
                send(producer, prefix + "-" + codec, count, codec + "-%05d", codec);
            }
        }
    }

    static void consume(String group, String topic) throws Exception {
        Properties p = settings("group.id", group, "auto.offset.reset", "earliest",
                "isolation.level", System.getenv().getOrDefault("ISOLATION", "read_uncommitted"));
        if ("consumer".equals(System.getenv("GROUP_PROTOCOL"))) {
            p.put("group.protocol", "consumer"); // the broker says the timeouts
        } else {
            p.put("session.timeout.ms", "6000");
            p.put("heartbeat.interval.ms", "500");
        }
        AtomicBoolean ended = new AtomicBoolean();
        Thread stdin = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException e) {
                e.printStackTrace();
            }
            ended.set(true);
        });
        stdin.setDaemon(true);
        stdin.start();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (!ended.get()) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                    System.out.println(record.value());
                }
                System.out.flush();
            }
        }
    }

    static void transact(String topic, String id) throws Exception {
        try (KafkaProducer<String, String> producer = producer("transactional.id", id)) {
            producer.initTransactions();
            producer.beginTransaction();
            send(producer, topic, 10, "aborted-%d", null);
            producer.abortTransaction();
            producer.beginTransaction();
            send(producer, topic, 10, "committed-%d", null);
            producer.commitTransaction();
        }
    }

    static void admin(String topic) throws Exception {
        try (Admin admin = Admin.create(settings())) {
            admin.createTopics(List.of(new NewTopic(topic, 3, (short) 1))).all().get();
            expect(admin.listTopics().names().get().contains(topic), true);
            expect(partitions(admin, topic), 3);
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            Collection<AlterConfigOp> set = List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "123456"), AlterConfigOp.OpType.SET));
            admin.incrementalAlterConfigs(Map.of(resource, set)).all().get();
            expect(admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value(), "123456");
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
            expect(partitions(admin, topic), 5);
            admin.listConsumerGroups().all().get();
            expect(admin.describeCluster().nodes().get().size(), 1);
            admin.deleteTopics(List.of(topic)).all().get();
        }
    }

    static int partitions(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
    }

    static void expect(Object got, Object want) {
        if (!got.equals(want)) {
            throw new AssertionError("got " + got + ", want " + want);
        }
    }
}
