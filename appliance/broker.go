// Package appliance is the broker as one value: [Open] recovers the log from a
// data directory and serves it to Kafka clients, [Broker.Close] stops. It knows
// nothing of MQTT, plugins or mirrors; they are given its [topic.Set].
package appliance

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/clock"
	"github.com/weirmq/weir/appliance/device"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/metadata"
	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/quota"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/txn"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
)

// DefaultKafka is where the Kafka listener is unless told: on loopback, because
// nothing protects it.
const DefaultKafka = "127.0.0.1:9092"

// Files of the data directory.
const (
	MetadataFile = "metadata.db"
	ballastFile  = "ballast" // the reserve, taken from the disk beforehand
)

// metadataRoom is what a write of metadata may need on the disk, at most: the store
// grows, and its copy stands there twice for a moment.
const metadataRoom = 8 << 20

// configsBucket is where the metadata have the broker's configs that were set.
const configsBucket = "broker-configs"

// quotasBucket is where the metadata have the quotas.
const quotasBucket = "quotas"

// clockFile is where the clock writes the time down, beside it.
const clockFile = "clock"

// Options says where a broker keeps its data and how it behaves.
type Options struct {
	// Data is the data directory. It is made if there is none. One process at a
	// time can have it open.
	Data string
	// Kafka is the listener's "host:port"; port 0 picks one. Empty: DefaultKafka.
	Kafka string
	// Listener, if not nil, is used instead of listening at Kafka. Open takes it over
	// when it succeeds; clients that dial during recovery wait in its queue.
	Listener net.Listener
	// Listeners, if there are any, are used instead of Kafka and Listener.
	Listeners []Listener
	// TLS is the identity of the listeners that encrypt.
	TLS *tls.Config
	// Auth is who may do what; nil: everybody may do what no access rule is about. Users,
	// Rules, Trail, Now and Log are filled in, and Tokens made of AuthTokens.
	Auth *auth.Options
	// AuthTokens, if not nil, has JSON Web Tokens taken. Cache and Log are filled in.
	AuthTokens *auth.TokenOptions
	// NoAudit writes no audit trail.
	NoAudit bool
	// MaxAuditQueue bounds the audit events that wait to be written; 0:
	// auth.DefaultMaxQueued.
	MaxAuditQueue int
	// Wire is how the Kafka listeners behave. Topics, Groups, Auth, ClusterID,
	// NextProducerID, Log, LogDir and DefaultPartitions are filled in.
	Wire kafka.Options
	// Groups is how consumer groups are coordinated. Log, Partition, HighWatermark and
	// Logger are filled in.
	Groups group.Options
	// Quotas is how clients are limited. Store is filled in.
	Quotas quota.Options
	// Transactions is how transactions are coordinated. Topics, Partition,
	// NextProducerID, Epoch and Logger are filled in.
	Transactions txn.Options
	// Partitions is how many a topic gets that does not say (num.partitions), 1.
	Partitions int32
	// MaxPartitions bounds the partitions of all topics; 0: topic.DefaultMaxPartitions.
	MaxPartitions int
	// OpenFiles is that of topic.Options.
	OpenFiles int
	// ReserveBytes is what stays free on the disk; 0: topic.DefaultReserveBytes.
	ReserveBytes int64
	// TrashRetention is how long a deleted topic's data are kept; 0:
	// topic.DefaultTrashRetention, less than 0: not at all.
	TrashRetention time.Duration
	// BudgetBytes, BudgetPercent and Mirrored are those of topic.Options.
	BudgetBytes   int64
	BudgetPercent int
	Mirrored      func(record.TopicPartition) (offset int64, known bool)
	// TopicConfigs are topic configs that hold where a topic does not say, by
	// Kafka's names for topics ("retention.ms", "max.message.bytes").
	TopicConfigs map[string]string
	// Profile is how appends gather into commit rounds.
	Profile Profile
	// WAL is the write-ahead log in detail. A Linger here overrides the Profile's.
	WAL wal.Options
	// Clock is how far the machine's clock is trusted. FS, File, Built and Log are
	// filled in.
	Clock clock.Options
	// Endurance is how many bytes the disk stands (its TBW), 0 if that is not known, and
	// Lifetime how long it is to stand them. A status warns when it will not.
	Endurance int64
	Lifetime  time.Duration
	// WritebackBytesPerSecond is that of topic.Options.
	WritebackBytesPerSecond int64
	// CheckpointInterval and RetentionInterval are those of topic.Options; 0: the
	// Profile's, and topic.DefaultRetentionInterval.
	CheckpointInterval, RetentionInterval time.Duration
	// ProducerExpiration, MaxProducers and MaxAborted are those of topic.Options.
	ProducerExpiration       time.Duration
	MaxProducers, MaxAborted int
	// Cleaner is how compacted topics are compacted.
	Cleaner topic.CleanerOptions
	// Log takes what an operator should know; nil discards it.
	Log *slog.Logger
}

// Broker is a running broker. Its methods may be called concurrently.
type Broker struct {
	log     *slog.Logger
	store   *metadata.Store
	ballast *vfs.Ballast
	clock   *clock.Clock
	configs *kafka.BrokerConfigs
	meter   *device.Meter // nil where no block device can be asked
	topics  *topic.Set
	groups  *group.Coordinator
	txns    *txn.Coordinator
	trail   *auth.Trail
	auth    *auth.Authority
	quotas  *quota.Quotas
	server  *kafka.Server
	bound   []net.Listener
	epoch   int32
	profile Profile
	serving sync.WaitGroup // of the listeners

	closeOnce sync.Once
	closeErr  error
}

// Open locks the data directory, recovers the log and listens. Everything that was
// acknowledged before is there when it returns. The error names what is in the way:
// metadata.ErrInUse is another process on the same directory.
func Open(o Options) (_ *Broker, err error) {
	if o.Data == "" {
		return nil, errors.New("appliance: no data directory given")
	}
	if o.Kafka == "" {
		o.Kafka = DefaultKafka
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{log: o.Log}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("appliance: %w", err), b.abandon())
		}
	}()
	if err := b.openLog(o); err != nil {
		return nil, err
	}
	b.measure(o)
	if err := b.openTransactions(o); err != nil {
		return nil, err
	}
	if err := b.openGroups(o); err != nil {
		return nil, err
	}
	if err := b.openAuth(o); err != nil {
		return nil, err
	}
	if err := b.listen(o); err != nil {
		return nil, err
	}
	return b, nil
}

// openLog opens the metadata, which locks the directory, and then the topics.
func (b *Broker) openLog(o Options) (err error) {
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return fmt.Errorf("make data directory %s: %w", o.Data, err)
	}
	// The ballast first: on a full disk all that follows needs what it lets go of.
	reserve := cmp.Or(o.ReserveBytes, topic.DefaultReserveBytes)
	if b.ballast, err = vfs.NewBallast(vfs.OS(o.Data), ballastFile, reserve); err != nil {
		return err
	}
	room := func() { b.ballast.Ensure(min(metadataRoom, reserve/4)) }
	room()
	if b.store, err = metadata.Open(filepath.Join(o.Data, MetadataFile)); err != nil {
		return err
	}
	b.reportMetadata()
	b.store.SetRoom(room)
	o.Clock.FS, o.Clock.File, o.Clock.Built, o.Clock.Log = vfs.OS(o.Data), clockFile, clock.Built(), o.Log
	b.clock = clock.Open(o.Clock)
	if b.profile, err = o.Profile.apply(&o); err != nil {
		return err
	}
	if b.epoch, err = b.store.NextEpoch(); err != nil {
		return err
	}
	// What was set at run time counts from the first moment on: it says what may be deleted.
	file := topic.Tuning{CleanerInterval: o.Cleaner.Interval, CleanerMapBytes: o.Cleaner.MapBytes, CleanerIOBytesPerSecond: o.Cleaner.IOBytesPerSecond, ProducerExpiration: o.ProducerExpiration}
	if b.configs, err = kafka.OpenBrokerConfigs(b.store.Bucket(configsBucket), o.TopicConfigs, file, o.Log); err != nil {
		return err
	}
	tuning := b.configs.Tuning()
	o.Cleaner.Interval, o.Cleaner.MapBytes, o.Cleaner.IOBytesPerSecond = tuning.CleanerInterval, tuning.CleanerMapBytes, tuning.CleanerIOBytesPerSecond
	start := time.Now()
	b.topics, err = topic.Open(topic.Options{
		FS: b.ballast, Ballast: b.ballast, BudgetBytes: o.BudgetBytes, BudgetPercent: o.BudgetPercent, Mirrored: o.Mirrored, Catalog: catalog{b.store}, LeaderEpoch: b.epoch, Raise: b.raise, WAL: o.WAL,
		Partitions: o.Partitions, MaxPartitions: o.MaxPartitions, OpenFiles: o.OpenFiles, ReserveBytes: o.ReserveBytes,
		TrashRetention: o.TrashRetention, Configs: b.configs.TopicDefaults(),
		WritebackBytesPerSecond: o.WritebackBytesPerSecond,
		CheckpointInterval:      o.CheckpointInterval, RetentionInterval: o.RetentionInterval, ProducerExpiration: tuning.ProducerExpiration, MaxProducers: o.MaxProducers, MaxAborted: o.MaxAborted, Clock: b.clock, Log: o.Log,
		// In __consumer_offsets the last record of a key need not be the one that holds: a
		// snapshot copies older ones behind newer ones. Its writer keeps it short itself.
		Cleaner: o.Cleaner, OwnCompaction: []string{group.TopicName},
	})
	if err != nil {
		return fmt.Errorf("open the log in %s: %w", o.Data, err)
	}
	// The two fail together: nothing may be acknowledged for topics that nobody knows.
	b.store.OnFailure(b.topics.Fail)
	if err := b.store.Rebuilt(); err != nil {
		return err
	}
	b.log.Info("log recovered", "data", o.Data, "topics", len(b.topics.Topics()), "leader_epoch", b.epoch,
		"commit_profile", b.profile, "took", time.Since(start).Round(time.Millisecond))
	return nil
}

// measure begins to count what reaches the disk. That it cannot be counted is no
// reason not to start.
func (b *Broker) measure(o Options) {
	found, err := device.Find(o.Data)
	if err == nil {
		b.meter, err = device.Measure(device.Options{
			Device: found, Payload: b.topics.WAL().PayloadBytes.Load, Endurance: o.Endurance, Lifetime: o.Lifetime,
		})
	}
	if err != nil {
		b.log.Info("what is written to the disk is not measured", "why", err)
	}
}

// openTransactions completes what was decided before a crash, so that groups and
// clients do not meet it half done.
func (b *Broker) openTransactions(o Options) error {
	state, err := txn.EnsureTopic(b.topics)
	if err != nil {
		return err
	}
	t := o.Transactions
	t.Topics, t.Partition, t.NextProducerID, t.Epoch, t.Logger = b.topics, state, b.store.NextProducerID, b.epoch, o.Log
	t.Clock, t.Age, t.RaiseProducerIDs = b.clock.Read, b.clock.Age, b.store.RaiseProducerIDs
	b.txns, err = txn.Open(t)
	return err
}

func (b *Broker) openGroups(o Options) error {
	offsets, err := group.EnsureTopic(b.topics)
	if err != nil {
		return err
	}
	g := o.Groups
	g.Log, g.Partition, g.Logger = topic.ReadUncommitted{Set: b.topics}, offsets, o.Log
	g.Now, g.Age, g.Cluster = b.clock.Now, b.clock.Age, group.TopicsOf(b.topics)
	g.HighWatermark = func(tp record.TopicPartition) (int64, bool) {
		p, err := b.topics.Partition(tp)
		if err != nil {
			return 0, false
		}
		return p.HighWatermark(), true
	}
	b.groups, err = group.Open(g)
	return err
}

func (b *Broker) listen(o Options) (err error) {
	w := o.Wire
	w.Transactions, w.Auth = b.txns, b.auth
	w.Topics, w.Groups, w.ClusterID, w.NextProducerID, w.Log = b.topics, b.groups, b.store.ClusterID(), b.store.NextProducerID, o.Log
	w.DefaultPartitions = o.Partitions
	o.Quotas.Store = b.store.Bucket(quotasBucket)
	if b.quotas, err = quota.Open(o.Quotas); err != nil {
		return err
	}
	w.Quotas = b.quotas
	if w.LogDir, err = filepath.Abs(o.Data); err != nil {
		return fmt.Errorf("appliance: data directory %s: %w", o.Data, err)
	}
	w.Configs = b.configs
	if b.server, err = kafka.New(w); err != nil {
		return err
	}
	return b.serve(o)
}

// Topics is the log, for the parts that read and write it in this process.
func (b *Broker) Topics() *topic.Set { return b.topics }

// Quotas is what clients may take, for the other protocols that they come by.
func (b *Broker) Quotas() *quota.Quotas { return b.quotas }

// Groups coordinates the consumer groups.
func (b *Broker) Groups() *group.Coordinator { return b.groups }

// Clock is the time that records are stamped with and deletions go by.
func (b *Broker) Clock() *clock.Clock { return b.clock }

// Wear is what reaches the disk; zero where that cannot be measured.
func (b *Broker) Wear() device.Status {
	if b.meter == nil {
		return device.Status{}
	}
	return b.meter.Status()
}

// Metadata is the store of small tables, for the parts that keep state.
func (b *Broker) Metadata() *metadata.Store { return b.store }

// Auth knows users and access rules.
func (b *Broker) Auth() *auth.Authority { return b.auth }

// KafkaAddr is where Kafka clients connect, at the first listener.
func (b *Broker) KafkaAddr() net.Addr { return b.bound[0].Addr() }

// Failed is closed when the storage has failed, the log's or the metadata's. The process should end then, with
// an error: a restart reads from the disk what is really there.
func (b *Broker) Failed() <-chan struct{} { return b.topics.Failed() }

// Err is why the broker accepts no data; nil while it does.
func (b *Broker) Err() error { return b.topics.Err() }

// Close stops the listener, lets clients have the answers they are owed, commits
// and checkpoints the log and lets go of the data directory.
func (b *Broker) Close() error {
	b.closeOnce.Do(func() { b.closeErr = b.abandon() })
	return b.closeErr
}

// abandon closes what has been opened, in reverse.
func (b *Broker) abandon() error {
	var errs []error
	if b.server != nil {
		errs = append(errs, b.server.Close())
	}
	b.serving.Wait()
	b.trail.Close()
	if b.groups != nil {
		errs = append(errs, b.groups.Close())
	}
	if b.txns != nil {
		errs = append(errs, b.txns.Close())
	}
	if b.meter != nil {
		b.meter.Close()
	}
	if b.topics != nil {
		errs = append(errs, b.topics.Close())
	}
	if b.clock != nil {
		if err := b.clock.Close(); err != nil { // what is deleted by age stays longer
			b.log.Warn("the time was not written down", "err", err)
		}
	}
	if b.store != nil {
		errs = append(errs, b.store.Close())
	}
	if b.ballast != nil {
		errs = append(errs, b.ballast.Close())
	}
	return errors.Join(errs...)
}

// Status is the broker's part of GET /v1/status.
type Status struct {
	ClusterID     string       `json:"cluster_id"`
	Metadata      Metadata     `json:"metadata"`
	LeaderEpoch   int32        `json:"leader_epoch"`
	KafkaAddr     string       `json:"kafka"`
	CommitProfile Profile      `json:"commit_profile"`
	Error         string       `json:"error,omitempty"` // why no data is accepted
	Topics        int          `json:"topics"`
	Relaxed       int          `json:"topics_relaxed"` // whose acknowledged records a power cut can take
	RelaxedTopics []string     `json:"relaxed_topics"` // their names, the first MaxRelaxedNamed
	Partitions    int          `json:"partitions"`
	Offline       int          `json:"partitions_offline"`
	Damage        DamageStatus `json:"damage"`
	Records       int64        `json:"records"` // offsets from log start to high watermark
	Bytes         int64        `json:"bytes"`
	Clock         clock.Status `json:"clock"`
	// Device is what reaches the disk; nil where that cannot be measured.
	Device  *device.Status      `json:"device,omitempty"`
	WAL     WALStatus           `json:"wal"`
	Cleaner topic.CleanerStatus `json:"cleaner"`
	Disk    topic.DiskStatus    `json:"disk"`
	Kafka   kafka.Status        `json:"kafka_server"`
	Groups  group.Status        `json:"consumer_groups"`
	Auth    AuthStatus          `json:"auth"`
	// Transactions is what the coordinator of transactions does.
	Transactions txn.Status `json:"transactions"`
}

// WALStatus counts since the start.
type WALStatus struct {
	Rounds       uint64 `json:"rounds"`
	Entries      uint64 `json:"entries"`
	PayloadBytes uint64 `json:"payload_bytes"`
	WrittenBytes uint64 `json:"written_bytes"`
}

// MaxRelaxedNamed bounds the list of relaxed topics in a Status.
const MaxRelaxedNamed = 100

// Status is what the broker does now.
func (b *Broker) Status() Status {
	stats := b.topics.WAL()
	st := Status{
		ClusterID: b.store.ClusterID(), LeaderEpoch: b.epoch, KafkaAddr: b.kafkaAddrs(), CommitProfile: b.profile,
		WAL: WALStatus{Rounds: stats.Rounds.Load(), Entries: stats.Entries.Load(),
			PayloadBytes: stats.PayloadBytes.Load(), WrittenBytes: stats.WrittenBytes.Load()},
		Cleaner: b.topics.Cleaner(), Disk: b.topics.DiskStatus(), Kafka: b.server.Status(), Groups: b.groups.Status(), Transactions: b.txns.Status(), RelaxedTopics: []string{}, Clock: b.clock.Status(), Metadata: b.metadataStatus(),
		Damage: DamageStatus{Lost: []topic.Lost{}, WAL: b.topics.WALDamage()},
	}
	st.Auth = b.authStatus()
	if b.meter != nil {
		measured := b.meter.Status()
		st.Device = &measured
	}
	if err := b.Err(); err != nil {
		st.Error = err.Error()
	}
	for _, t := range b.topics.Topics() {
		st.Topics++
		if t.Relaxed() {
			if st.Relaxed++; st.Relaxed <= MaxRelaxedNamed {
				st.RelaxedTopics = append(st.RelaxedTopics, t.Name())
			}
		}
		for _, p := range t.Partitions() {
			st.Partitions++
			if p.Err() != nil {
				st.Offline++
			}
			st.Damage.add(p.Lost())
			st.Records += p.HighWatermark() - p.LogStartOffset()
			st.Bytes += p.Size()
		}
	}
	return st
}

// Metrics writes the broker's figures.
func (b *Broker) Metrics(w *metric.Writer) {
	st := b.Status()
	up := 1.0
	if st.Error != "" {
		up = 0
	}
	w.Gauge("weir_storage_up", "1 while appends are accepted, 0 after the storage has failed.", up)
	trusted := 1.0
	if !st.Clock.Trusted {
		trusted = 0
	}
	w.Gauge("weir_clock_trusted", "1 while the machine's clock is trusted, 0 after a jump and until the time is known.", trusted)
	w.Gauge("weir_clock_jump_seconds", "How far the machine's clock is from the trusted time; 0 while it is trusted.", st.Clock.JumpSeconds)
	st.Metadata.metrics(w)
	w.Gauge("weir_users", "Users that can log in by a password.", float64(st.Auth.Users))
	w.Gauge("weir_access_rules", "Access rules.", float64(st.Auth.Rules))
	w.Counter("weir_audit_events_total", "Events written to the audit trail.", float64(st.Auth.AuditWritten))
	w.Counter("weir_audit_events_lost_total", "Events that the audit trail had no room for.", float64(st.Auth.AuditLost))
	w.Gauge("weir_topics", "Topics.", float64(st.Topics))
	w.Gauge("weir_topics_relaxed", "Topics whose acknowledged records can be lost on a power cut (flush.messages above 1).", float64(st.Relaxed))
	for _, name := range st.RelaxedTopics {
		w.Gauge("weir_topic_relaxed", "1: acknowledged records of this topic can be lost on a power cut.", 1, "topic", name)
	}
	w.Gauge("weir_partitions", "Partitions of all topics.", float64(st.Partitions))
	w.Gauge("weir_partitions_offline", "Partitions that do not serve.", float64(st.Offline))
	st.Damage.metrics(w)
	w.Gauge("weir_log_records", "Records that can be read.", float64(st.Records))
	w.Gauge("weir_log_bytes", "Bytes of all segments.", float64(st.Bytes))
	if d := st.Device; d != nil {
		w.Counter("weir_device_written_bytes_total", "Bytes written to the block device that holds the data since the start, by whomever.", float64(d.WrittenBytes), "device", d.Device)
		w.Gauge("weir_device_write_amplification", "Bytes written to the device for each byte of payload, in the last minutes.", d.RecentAmplification, "device", d.Device)
	}
	w.Counter("weir_wal_rounds_total", "Commit rounds, each one sync of the disk.", float64(st.WAL.Rounds))
	w.Counter("weir_wal_entries_total", "Entries committed.", float64(st.WAL.Entries))
	w.Counter("weir_wal_payload_bytes_total", "Bytes appended.", float64(st.WAL.PayloadBytes))
	w.Counter("weir_wal_written_bytes_total", "Bytes written for them.", float64(st.WAL.WrittenBytes))
	cleanerMetrics(w, &st.Cleaner)
	st.Disk.Metrics(w)
	b.server.Metrics(w)
	b.groups.Metrics(w)
	b.txns.Metrics(w)
}

func cleanerMetrics(w *metric.Writer, st *topic.CleanerStatus) {
	w.Counter("weir_cleaner_runs_total", "Logs compacted.", float64(st.Runs))
	w.Counter("weir_cleaner_read_bytes_total", "Bytes read to compact logs.", float64(st.ReadBytes))
	w.Counter("weir_cleaner_written_bytes_total", "Bytes written to compact logs.", float64(st.WrittenBytes))
	w.Counter("weir_cleaner_removed_records_total", "Records that compaction removed.", float64(st.RemovedRecords))
	w.Gauge("weir_cleaner_max_dirty_ratio", "The greatest part of a compacted log that is not compacted, 0 to 1.", st.MaxDirtyRatio)
	w.Gauge("weir_cleaner_uncleanable_partitions", "Partitions that cannot be compacted.", float64(len(st.Uncleanable)))
}
