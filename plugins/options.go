package plugins

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/plugins/transform"
)

// Defaults of Options.
const (
	DefaultGuestMemoryBytes    = 16 << 20
	DefaultMaxGuestMemoryBytes = 64 << 20
	DefaultTotalMemoryBytes    = 256 << 20
	DefaultCallTime            = 100 * time.Millisecond
	DefaultMaxCallTime         = 10 * time.Second
	DefaultStartTime           = 5 * time.Second
	DefaultMaxPlugins          = 64
	DefaultPollInterval        = time.Second
)

// wasmPage is the unit of guest memory, 64 KiB.
const wasmPage = 64 << 10

// Options say what the host works on and what it allows. Zero is the default of
// the same name.
type Options struct {
	FS        vfs.FS    // the data folder; modules go to "plugins"
	CacheDir  string    // absolute path for compiled code, made with mode 0700; "" compiles at every start
	Registry  Registry  // which plugins are installed
	Topics    Topics    // which topics there are
	Log       Log       // their records
	Positions Positions // how far each plugin has come

	GuestMemoryBytes    int64         // one instance of a plugin that does not say
	MaxGuestMemoryBytes int64         // the most a plugin may ask for
	TotalMemoryBytes    int64         // all instances together
	CallTime            time.Duration // one call, for a plugin that does not say
	MaxCallTime         time.Duration // the most a plugin may ask for
	StartTime           time.Duration // starting an instance: start functions and weir_init
	MaxPlugins          int           // installed
	PollInterval        time.Duration // how often new topics and partitions are looked for

	// Interpret does without compiled code even where the engine could make it.
	Interpret bool
	Logger    *slog.Logger // nil: discard

	// Transform overrides the limits of each plugin's tasks.
	MaxRecords, MaxBytes, MaxBatchBytes, MaxOutputBytes int
	BreakAfter                                          int
	MinBackoff, MaxBackoff                              time.Duration
}

// Registry is a small durable table; *metadata.Bucket is one.
type Registry interface {
	All() (map[string][]byte, error)
	Put(key string, value []byte) error
	Delete(key string) error
}

// Topics finds and makes topics.
type Topics interface {
	// Partitions is how many a topic has; 0 when there is no such topic.
	Partitions(topic string) int32
	// Ensure makes a topic unless it exists and returns its partitions. partitions
	// 0 means the broker's default.
	Ensure(topic string, partitions int32, internal bool) (int32, error)
}

// Log is the local log; *topic.Set is most of one.
type Log = transform.Log

// Positions is where committed positions are kept: the group coordinator.
type Positions interface {
	// Committed is the position last committed; ok is false when there is none.
	// It is asked once for each plugin and partition, when the host first needs it.
	Committed(group string, tp record.TopicPartition) (offset int64, ok bool, err error)
	// Encode makes the batch that commits a position, for AppendAtomic.
	Encode(group string, tp record.TopicPartition, offset int64) (record.Write, error)
}

// Validate names the first option that makes no sense.
func (o *Options) Validate() error {
	switch {
	case o.FS == nil || o.Registry == nil || o.Topics == nil || o.Log == nil || o.Positions == nil:
		return errors.New("plugins: FS, Registry, Topics, Log and Positions must be given")
	case o.MaxGuestMemoryBytes > maxLinearMemory:
		return fmt.Errorf("plugins: MaxGuestMemoryBytes %d: at most %d", o.MaxGuestMemoryBytes, maxLinearMemory)
	case o.GuestMemoryBytes > o.MaxGuestMemoryBytes || o.MaxGuestMemoryBytes > o.TotalMemoryBytes:
		return fmt.Errorf("plugins: GuestMemoryBytes %d, MaxGuestMemoryBytes %d and TotalMemoryBytes %d must not shrink in this order",
			o.GuestMemoryBytes, o.MaxGuestMemoryBytes, o.TotalMemoryBytes)
	case o.CallTime > o.MaxCallTime:
		return fmt.Errorf("plugins: CallTime %v is more than MaxCallTime %v", o.CallTime, o.MaxCallTime)
	case o.GuestMemoryBytes < wasmPage || o.CallTime < time.Millisecond || o.StartTime < time.Millisecond || o.MaxPlugins < 1 || o.PollInterval <= 0:
		return errors.New("plugins: a limit is below what any plugin needs")
	}
	return nil
}

func (o Options) withDefaults() Options {
	setDefault(&o.GuestMemoryBytes, DefaultGuestMemoryBytes)
	setDefault(&o.MaxGuestMemoryBytes, max(DefaultMaxGuestMemoryBytes, o.GuestMemoryBytes))
	setDefault(&o.TotalMemoryBytes, max(DefaultTotalMemoryBytes, o.MaxGuestMemoryBytes))
	setDefault(&o.CallTime, DefaultCallTime)
	setDefault(&o.MaxCallTime, max(DefaultMaxCallTime, o.CallTime))
	setDefault(&o.StartTime, DefaultStartTime)
	setDefault(&o.MaxPlugins, DefaultMaxPlugins)
	setDefault(&o.PollInterval, DefaultPollInterval)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](v *T, d T) {
	if *v == *new(T) {
		*v = d
	}
}

// grant is a plugin's limits: what it wants, if the host allows that.
func (o *Options) grant(want Limits) (Limits, error) {
	got := want
	setDefault(&got.MemoryBytes, o.GuestMemoryBytes)
	setDefault(&got.CallMs, o.CallTime.Milliseconds())
	if got.MemoryBytes > o.MaxGuestMemoryBytes {
		return got, fmt.Errorf("limits.memory_bytes: the plugin wants %d, this host allows %d", got.MemoryBytes, o.MaxGuestMemoryBytes)
	}
	if got.CallMs > o.MaxCallTime.Milliseconds() {
		return got, fmt.Errorf("limits.call_ms: the plugin wants %d, this host allows %d", got.CallMs, o.MaxCallTime.Milliseconds())
	}
	got.MemoryBytes = max(got.MemoryBytes/wasmPage, 1) * wasmPage
	return got, nil
}
