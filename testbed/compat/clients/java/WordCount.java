import java.time.Duration;
import java.util.Arrays;
import java.util.Locale;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Produced;

/**
 * Kafka Streams' word count, exactly once: WordCount APPLICATION INPUT OUTPUT STATE-DIR, until stdin ends.
 * It repartitions by word, so it has internal topics of both kinds: a repartition topic and a changelog.
 */
public class WordCount {
    public static void main(String[] args) throws Exception {
        Properties p = Client.settings(
                StreamsConfig.APPLICATION_ID_CONFIG, args[0],
                StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2,
                StreamsConfig.STATE_DIR_CONFIG, args[3],
                StreamsConfig.consumerPrefix("session.timeout.ms"), "6000",
                StreamsConfig.consumerPrefix("heartbeat.interval.ms"), "500",
                // A transaction of one that was killed holds its records back until this has passed.
                StreamsConfig.producerPrefix("transaction.timeout.ms"), "6000");
        p.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(args[1])
                .flatMapValues(line -> Arrays.asList(line.toLowerCase(Locale.ROOT).split("\\W+")))
                .groupBy((key, word) -> word)
                .count()
                .toStream()
                .mapValues(Object::toString)
                .to(args[2], Produced.with(Serdes.String(), Serdes.String()));
        try (KafkaStreams streams = new KafkaStreams(builder.build(), p)) {
            streams.setUncaughtExceptionHandler(e -> {
                e.printStackTrace();
                System.exit(1);
                return null;
            });
            streams.setStateListener((now, before) -> System.out.println(now));
            streams.start();
            System.in.readAllBytes();
            streams.close(Duration.ofSeconds(20));
        }
    }
}
