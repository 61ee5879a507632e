package mirror

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// Limits of every flow. Those an operator may want to move are FlowOptions fields.
const (
	// DefaultMaxInFlightBytes bounds what a flow holds in memory: fetched and
	// not yet acknowledged by the target.
	DefaultMaxInFlightBytes = 32 << 20
	// DefaultRetryMax caps the pause between attempts to reach the target.
	DefaultRetryMax = 15 * time.Second
	// MaxInFlightBatches is how many batches of one partition may be on their
	// way at once. Kafka remembers the last five of a producer, not more.
	MaxInFlightBatches = 5
	// MaxFlows and MaxPartitions bound the configuration.
	MaxFlows      = 16
	MaxPartitions = 10_000

	minInFlightBytes  = 1 << 20
	retryMin          = 100 * time.Millisecond
	fetchBytes        = 1 << 20   // read from the source at once
	smallBatchBytes   = 16 << 10  // smaller ones are merged
	mergedBatchBytes  = 256 << 10 // what merging aims at, uncompressed
	maxPendingBatches = 8         // read ahead of the acknowledgements, per partition
	shipmentBytes     = 1 << 20   // one produce request carries about so much
	maxRequests       = 16        // produce requests on their way per target broker
	discoveryInterval = 500 * time.Millisecond
	anchorInterval    = 2 * time.Second
	operationTimeout  = 30 * time.Second
	closeTimeout      = 3 * time.Second
	recentEvents      = 64
)

// What a flow does when records cannot be mirrored any more: the source no
// longer holds them, or the target is not what it was.
const (
	Halt           = "halt"             // stop the partition and say why; the default
	GapAndContinue = "gap-and-continue" // write a gap record, go on behind the gap
)

// Options is the whole mirror of one site.
type Options struct {
	// Site is this site's name, unique among those that mirror to one target:
	// letters, digits, '-' and '_'. It prefixes the topics at the target.
	Site  string        `yaml:"site"`
	Flows []FlowOptions `yaml:"flows"`
}

// FlowOptions is one flow: which topics go where. Flows are independent.
type FlowOptions struct {
	// Name tells flows apart and is part of the position kept at the target:
	// a renamed flow is a new flow.
	Name string `yaml:"name"`
	// To is host:port of some of the target's brokers.
	To []string `yaml:"to"`
	// Topics is names or globs ('*' any, '?' one character) of what is mirrored.
	// Internal topics are mirrored only when named in full.
	Topics []string `yaml:"topics"`
	// Exclude is names or globs of what is not, although Topics matches it.
	Exclude []string `yaml:"exclude"`
	// Rename makes the target's topic name; {site} and {topic} stand for
	// themselves. "" means "{site}.{topic}"; "{topic}" keeps names.
	Rename string `yaml:"rename"`
	// Compression of batches that are merged or split; others pass as they
	// are. "" means lz4.
	Compression string `yaml:"compression"`
	// OnGap is Halt or GapAndContinue; "" means Halt.
	OnGap string `yaml:"on-gap"`
	// MaxInFlightBytes bounds memory; 0 means DefaultMaxInFlightBytes, the least is 1 MiB.
	MaxInFlightBytes int64 `yaml:"max-in-flight-bytes"`
	// RetryMax caps the pause between attempts; 0 means DefaultRetryMax.
	RetryMax time.Duration `yaml:"retry-max"`
	// ReplicationFactor of topics created at the target; 0 leaves it to the target.
	ReplicationFactor int16 `yaml:"replication-factor"`
	// TLS, when set, encrypts the link; nil is plain TCP.
	TLS *TLSOptions `yaml:"tls"`
	// SASL, when set, is how the flow authenticates.
	SASL *SASLOptions `yaml:"sasl"`
}

// TLSOptions is files in PEM. Empty CA trusts the system's authorities; Cert and
// Key are for a target that wants client certificates.
type TLSOptions struct {
	CA         string `yaml:"ca"`
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	ServerName string `yaml:"server-name"`
}

// SASLOptions is a user of the target. Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
type SASLOptions struct {
	Mechanism string `yaml:"mechanism"`
	Username  string `yaml:"username"`
	Password  string `yaml:"password"`
}

var (
	siteName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	flowName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// Validate says what is wrong and how to mend it; the error joins all findings.
func (o Options) Validate() error {
	var errs []error
	if !siteName.MatchString(o.Site) {
		errs = append(errs, fmt.Errorf("mirror: site %q: want 1-64 letters, digits, '-' or '_'", o.Site))
	}
	if len(o.Flows) > MaxFlows {
		errs = append(errs, fmt.Errorf("mirror: %d flows, at most %d", len(o.Flows), MaxFlows))
	}
	seen := map[string]bool{}
	for _, f := range o.Flows {
		if seen[f.Name] {
			errs = append(errs, fmt.Errorf("mirror: two flows are named %q; names tell their positions apart", f.Name))
		}
		seen[f.Name] = true
		if err := f.validate(); err != nil {
			errs = append(errs, fmt.Errorf("mirror: flow %q: %w", f.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (o FlowOptions) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !flowName.MatchString(o.Name) {
		bad("name: want 1-64 letters, digits, '.', '-' or '_'")
	}
	if len(o.To) == 0 {
		bad("to: name at least one broker of the target as host:port")
	}
	if len(o.Topics) == 0 {
		bad(`topics: name at least one topic or glob, such as "*"`)
	}
	for _, g := range append(append([]string(nil), o.Topics...), o.Exclude...) {
		if _, err := path.Match(g, ""); err != nil {
			bad("topics: %q is not a glob: %w", g, err)
		}
	}
	if o.Rename != "" && !strings.Contains(o.Rename, "{topic}") {
		bad("rename: %q lacks {topic}, so that all topics would become one", o.Rename)
	}
	if o.Compression != "" {
		if _, err := record.CodecByName(o.Compression); err != nil {
			bad("compression: %w", err)
		}
	}
	if o.OnGap != "" && o.OnGap != Halt && o.OnGap != GapAndContinue {
		bad("on-gap: %q is neither %s nor %s", o.OnGap, Halt, GapAndContinue)
	}
	if o.MaxInFlightBytes != 0 && o.MaxInFlightBytes < minInFlightBytes {
		bad("max-in-flight-bytes: %d, at least %d", o.MaxInFlightBytes, minInFlightBytes)
	}
	if o.ReplicationFactor < 0 || o.RetryMax < 0 {
		bad("replication-factor and retry-max must not be negative")
	}
	return errors.Join(errs...)
}

func (o FlowOptions) withDefaults() FlowOptions {
	if o.Rename == "" {
		o.Rename = "{site}.{topic}"
	}
	if o.Compression == "" {
		o.Compression = record.LZ4.String()
	}
	if o.OnGap == "" {
		o.OnGap = Halt
	}
	if o.MaxInFlightBytes == 0 {
		o.MaxInFlightBytes = DefaultMaxInFlightBytes
	}
	if o.RetryMax == 0 {
		o.RetryMax = DefaultRetryMax
	}
	if o.ReplicationFactor == 0 {
		o.ReplicationFactor = -1 // KIP-464: the broker's default
	}
	return o
}
