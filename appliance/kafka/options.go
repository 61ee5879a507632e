package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/quota"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/txn"
)

// Limits that no option changes.
const (
	// nodeID is the one broker's id. Not 0: kafkajs 2.2.4 takes leader 0 for "no leader".
	nodeID = 1
	// drainTimeout is how long Close lets connections send the answers they owe.
	drainTimeout               = 2 * time.Second
	defaultMaxConnections      = 2048
	defaultMaxConnectionsPerIP = 1024
	// minDrainRate is the bytes per second a client must take at least; the write
	// deadline of a long answer grows by it.
	minDrainRate = 4 << 10
)

// Options configures a Server. The comments name Kafka's keys. A zero field takes
// the default; Topics is required.
type Options struct {
	// Topics is the log served.
	Topics *topic.Set
	// Groups coordinates consumer groups. Nil answers their requests with
	// COORDINATOR_NOT_AVAILABLE.
	Groups *group.Coordinator
	// Auth knows users and access rules. Nil lets everybody do everything.
	Auth *auth.Authority
	// Quotas bounds what clients take. Nil: no quotas, until they are set, and not kept.
	Quotas *quota.Quotas
	// Configs are the broker's configs that change at run time. Nil: none is set, and
	// none is kept.
	Configs *BrokerConfigs
	// Transactions coordinates transactions. Nil answers their requests with
	// COORDINATOR_NOT_AVAILABLE.
	Transactions *txn.Coordinator
	// NextProducerID hands out an id never handed out before (InitProducerId).
	NextProducerID func() (int64, error)
	// ClusterID names the cluster to clients (cluster.id).
	ClusterID string
	// LogDir is the data folder's path as clients are shown it (log.dirs), "data".
	LogDir string
	// Log takes what an operator should know; nil discards it.
	Log *slog.Logger

	// AdvertisedListener is the "host:port" clients are told to dial, with or without
	// "PLAINTEXT://" or another protocol before it (advertised.listeners), where their
	// listener does not say (Security.Advertised). Empty means the address that the
	// client has dialled already, which is right unless there is a NAT between.
	AdvertisedListener string
	// NoAutoCreateTopics refuses topics nobody created (auto.create.topics.enable=false).
	NoAutoCreateTopics bool
	// DefaultPartitions is the size of a topic that does not say (num.partitions), 1.
	DefaultPartitions int32

	// MaxProduceBytes bounds a Produce request (socket.request.max.bytes), 100 MiB.
	MaxProduceBytes int
	// MaxRequestBytes bounds every other request, in bytes, 1 MiB.
	MaxRequestBytes int
	// MaxRequestPartitions bounds the partitions that one Produce or Fetch names, and
	// those of one fetch session, 10,000.
	MaxRequestPartitions int
	// MaxRequestElements bounds the elements of all arrays of one other request that may
	// be larger than MaxAdminBytes, 100,000. An empty one may take three bytes, and
	// eighty once it is decoded.
	MaxRequestElements int
	// MaxAdminBytes bounds administrative requests, and SASL tokens, in bytes, 64 KiB. The
	// decoder makes room for as many elements as an array claims and there are bytes
	// left, so a request can cost some hundred times its size while it is decoded.
	MaxAdminBytes int
	// MaxQueuedBytes bounds the memory of all requests being received together
	// (queued.max.request.bytes), 128 MiB. What goes beyond is disconnected.
	MaxQueuedBytes int64
	// MaxFetchBytes bounds one Fetch answer (fetch.max.bytes), 55 MiB.
	MaxFetchBytes int
	// MaxFetchWait bounds how long a Fetch waits for data, whatever it asks, 30 s.
	MaxFetchWait time.Duration
	// MaxFetchSessions bounds the incremental fetch sessions
	// (max.incremental.fetch.session.cache.slots), 1000. Negative: none.
	MaxFetchSessions int
	// MaxFetchSessionPartitions bounds what all of them remember together, 100,000: about
	// 150 bytes each.
	MaxFetchSessionPartitions int
	// MaxInFlight bounds the answers one connection may be owed, 256.
	MaxInFlight int
	// MaxQueuedReplies bounds the answers, other than Produce's, that wait on one
	// connection for a client that does not read, 4.
	MaxQueuedReplies int
	// MaxAutoCreate bounds the topics that one Metadata request creates; a client asks
	// again for those answered LEADER_NOT_AVAILABLE, 64.
	MaxAutoCreate int
	// MaxDescribedPartitions bounds one answer of DescribeTopicPartitions, whatever its
	// request allows (max.request.partition.size.limit), 2000.
	MaxDescribedPartitions int
	// MaxConnections bounds all connections (max.connections), 2048.
	MaxConnections int
	// MaxConnectionsPerIP bounds those of one address (max.connections.per.ip), 1024.
	MaxConnectionsPerIP int
	// MaxConnectionRate bounds new connections per second (max.connection.creation.rate);
	// those beyond wait to be accepted. 0: no limit.
	MaxConnectionRate int
	// MaxIdle closes a connection that asks nothing (connections.max.idle.ms), 10 min.
	MaxIdle time.Duration
	// HandshakeTimeout closes a connection whose first request does not come, 10 s.
	HandshakeTimeout time.Duration
	// ReadTimeout closes a connection that stops within a request: each 64 KiB of it
	// must arrive within this time, 30 s.
	ReadTimeout time.Duration
	// WriteTimeout closes a connection that does not take its answer, 30 s and what a
	// rate of 4 KiB/s adds.
	WriteTimeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Groups == nil {
		o.Groups = group.Unavailable()
	}
	if o.Auth == nil {
		o.Auth = auth.Unguarded()
	}
	if o.Quotas == nil {
		o.Quotas, _ = quota.Open(quota.Options{}) // without a store nothing can fail
	}
	if o.Transactions == nil {
		o.Transactions = txn.Unavailable()
	}
	setDefault(&o.ClusterID, "weir")
	setDefault(&o.LogDir, "data")
	setDefault(&o.DefaultPartitions, 1)
	setDefault(&o.MaxProduceBytes, 100<<20)
	setDefault(&o.MaxRequestBytes, 1<<20)
	setDefault(&o.MaxQueuedBytes, 128<<20)
	setDefault(&o.MaxFetchBytes, 55<<20)
	setDefault(&o.MaxFetchWait, 30*time.Second)
	setDefault(&o.MaxAdminBytes, 64<<10)
	setDefault(&o.MaxFetchSessions, 1000)
	setDefault(&o.MaxFetchSessionPartitions, 100_000)
	setDefault(&o.MaxQueuedReplies, 4)
	setDefault(&o.MaxAutoCreate, 64)
	setDefault(&o.MaxDescribedPartitions, 2000)
	setDefault(&o.MaxInFlight, 256)
	setDefault(&o.MaxRequestPartitions, 10_000)
	setDefault(&o.MaxRequestElements, 100_000)
	setDefault(&o.MaxConnections, defaultMaxConnections)
	setDefault(&o.MaxConnectionsPerIP, defaultMaxConnectionsPerIP)
	setDefault(&o.MaxIdle, 10*time.Minute)
	setDefault(&o.HandshakeTimeout, 10*time.Second)
	setDefault(&o.ReadTimeout, 30*time.Second)
	setDefault(&o.WriteTimeout, 30*time.Second)
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports the first option that cannot work.
func (o Options) Validate() error {
	if o.Topics == nil {
		return errors.New("kafka: Options.Topics is required")
	}
	if err := CheckAdvertised(o.AdvertisedListener); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"socket.request.max.bytes", int64(o.MaxProduceBytes)}, {"fetch.max.bytes", int64(o.MaxFetchBytes)},
		{"queued.max.request.bytes", o.MaxQueuedBytes}, {"max.connections", int64(o.MaxConnections)},
		{"max.connections.per.ip", int64(o.MaxConnectionsPerIP)}, {"num.partitions", int64(o.DefaultPartitions)},
		{"max.connection.creation.rate", int64(o.MaxConnectionRate)},
		{"connections.max.idle.ms", int64(o.MaxIdle)},
	} {
		if n.value < 0 {
			return fmt.Errorf("kafka: %s is %d, it must not be negative", n.name, n.value)
		}
	}
	return nil
}

// CheckAdvertised says why clients cannot be told to dial an address; "" is none.
func CheckAdvertised(address string) error {
	if address == "" {
		return nil
	}
	if _, _, err := splitListener(address); err != nil {
		return fmt.Errorf("advertised.listeners %q: %w", address, err)
	}
	return nil
}

// splitListener reads "host:port" or "PROTOCOL://host:port".
func splitListener(s string) (host string, port int32, err error) {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		switch Protocol(scheme) {
		case Plaintext, SSL, SASLPlaintext, SASLSSL:
		default:
			return "", 0, fmt.Errorf("listener protocol %q is not PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", scheme)
		}
		s = rest
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("want host:port: %w", err)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("want host:port with a port of 1 to 65535")
	}
	return host, int32(n), nil
}
