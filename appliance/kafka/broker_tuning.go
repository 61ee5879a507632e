package kafka

import (
	"math"
	"strconv"
	"time"

	"github.com/weirmq/weir/appliance/topic"
)

// tuningKeys are the configs of the broker that tune the log while it is open, by
// Kafka's names.
func tuningKeys() []*brokerKey {
	def := topic.DefaultTuning()
	key := func(name string, least, most int64, doc string, get func(topic.Tuning) int64, set func(*topic.Tuning, int64)) *brokerKey {
		return &brokerKey{
			Key:    topic.Key{Name: name, Type: "long", Min: least, Max: most, Default: strconv.FormatInt(get(def), 10), Doc: doc},
			static: func(b *BrokerConfigs, _ *Options) int64 { return get(b.file) }, tune: set,
		}
	}
	return []*brokerKey{
		key("log.cleaner.backoff.ms", 10, dayMillis, "How often there is a look for logs to compact.",
			func(t topic.Tuning) int64 { return t.CleanerInterval.Milliseconds() }, func(t *topic.Tuning, n int64) { t.CleanerInterval = time.Duration(n) * time.Millisecond }),
		key("log.cleaner.dedupe.buffer.size", 1<<10, 1<<30, "Memory for the keys of one log while it is compacted, in bytes.",
			func(t topic.Tuning) int64 { return int64(t.CleanerMapBytes) }, func(t *topic.Tuning, n int64) { t.CleanerMapBytes = int(n) }),
		key("log.cleaner.io.max.bytes.per.second", 0, math.MaxInt64, "What compaction reads and writes together in a second; 0 is no limit.",
			func(t topic.Tuning) int64 { return t.CleanerIOBytesPerSecond }, func(t *topic.Tuning, n int64) { t.CleanerIOBytesPerSecond = n }),
		key("producer.id.expiration.ms", 60_000, 3650*dayMillis, "How long a partition knows an idle idempotent producer.",
			func(t topic.Tuning) int64 { return t.ProducerExpiration.Milliseconds() }, func(t *topic.Tuning, n int64) { t.ProducerExpiration = time.Duration(n) * time.Millisecond }),
	}
}

const dayMillis = 24 * 60 * 60 * 1000

// Tuning is the log's tuning by the file and by what was set.
func (b *BrokerConfigs) Tuning() topic.Tuning {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tuning()
}

// tuning is Tuning; b.mu is held.
func (b *BrokerConfigs) tuning() topic.Tuning {
	t := b.file
	for name, k := range brokerKeys {
		if value, ok := b.set(name); ok && k.tune != nil {
			n, _ := strconv.ParseInt(value, 10, 64) // checked
			k.tune(&t, n)
		}
	}
	return t
}
