package mirror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weirmq/weir/appliance/record"
)

const (
	dialTimeout = 10 * time.Second
	// A request may take long on a slow link; that the peer is gone is told by
	// TCP (see deadline), not by the request.
	requestOverhead = 2 * time.Minute
	produceTimeout  = 15 * time.Second
	clientID        = "weir-mirror"
)

// target is the cluster that a flow writes to. Its methods are one request
// each; they give up when ctx ends.
type target struct {
	cl  *kgo.Client
	adm *kadm.Client
}

func openTarget(o FlowOptions) (*target, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(o.To...),
		kgo.ClientID(clientID),
		kgo.DisableIdempotentWrite(), // this client's own; ours is in the batches
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RequestRetries(2),
		kgo.RetryTimeout(operationTimeout),
		kgo.RequestTimeoutOverhead(requestOverhead),
		kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.DisableClientMetrics(),
	}
	dialer := &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         deadline,
	}
	if o.TLS == nil {
		opts = append(opts, kgo.Dialer(dialer.DialContext))
	} else {
		conf, err := o.TLS.config()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.Dialer((&tls.Dialer{NetDialer: dialer, Config: conf}).DialContext))
	}
	if o.SASL != nil {
		opt, err := o.SASL.option()
		if err != nil {
			return nil, err
		}
		opts = append(opts, opt)
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	return &target{cl: cl, adm: kadm.NewClient(cl)}, nil
}

func (o *TLSOptions) config() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: %s holds no certificate in PEM", o.CA)
		}
	}
	if o.Cert != "" || o.Key != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

func (o *SASLOptions) option() (kgo.Opt, error) {
	user := scram.Auth{User: o.Username, Pass: o.Password}
	switch o.Mechanism {
	case "PLAIN":
		return kgo.SASL(plain.Auth{User: o.Username, Pass: o.Password}.AsMechanism()), nil
	case "SCRAM-SHA-256":
		return kgo.SASL(user.AsSha256Mechanism()), nil
	case "SCRAM-SHA-512":
		return kgo.SASL(user.AsSha512Mechanism()), nil
	}
	return nil, fmt.Errorf("sasl: mechanism %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", o.Mechanism)
}

func (t *target) close() { t.cl.Close() }

// remoteTopic is what the target's metadata says of a topic.
type remoteTopic struct {
	id      [16]byte // zero when the target has none
	leaders []int32  // by partition; -1 while there is none
}

// describe looks topics up; those that do not exist are left out.
func (t *target) describe(ctx context.Context, topics ...string) (map[string]remoteTopic, error) {
	// Asked as a request and not through kadm, so that no cache stands between.
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, rt)
	}
	if len(topics) == 0 {
		req.Topics = []kmsg.MetadataRequestTopic{}
	}
	resp, err := req.RequestWith(ctx, t.cl)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	out := make(map[string]remoteTopic, len(resp.Topics))
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		switch err := kerr.ErrorForCode(rt.ErrorCode); {
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			continue
		case err != nil && !kerr.IsRetriable(err):
			return nil, fmt.Errorf("metadata of topic %s: %w", *rt.Topic, err)
		}
		d := remoteTopic{id: rt.TopicID, leaders: make([]int32, len(rt.Partitions))}
		for j := range d.leaders {
			d.leaders[j] = -1
		}
		for _, p := range rt.Partitions {
			if int(p.Partition) < len(d.leaders) && p.ErrorCode == 0 {
				d.leaders[p.Partition] = p.Leader
			}
		}
		out[*rt.Topic] = d
	}
	return out, nil
}

// create makes a topic; one that exists already is no error. Configs that the
// target does not know are left out rather than insisted on.
func (t *target) create(ctx context.Context, name string, partitions int32, factor int16, configs map[string]*string) error {
	resp, err := t.adm.CreateTopic(ctx, partitions, factor, configs, name)
	if err == nil {
		err = resp.Err
	}
	switch {
	case err == nil, errors.Is(err, kerr.TopicAlreadyExists):
		return nil
	case errors.Is(err, kerr.InvalidReplicationFactor) && factor < 0:
		return t.create(ctx, name, partitions, 1, configs) // before KIP-464
	case errors.Is(err, kerr.InvalidConfig) && len(configs) > 0:
		return t.create(ctx, name, partitions, factor, nil)
	}
	return fmt.Errorf("create topic %s: %w", name, err)
}

func (t *target) grow(ctx context.Context, name string, partitions int) error {
	resp, err := t.adm.UpdatePartitions(ctx, partitions, name)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		return fmt.Errorf("grow topic %s to %d partitions: %w", name, partitions, err)
	}
	return nil
}

// ends asks for the end offset of all partitions of the topics.
func (t *target) ends(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
	listed, err := t.adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("end offsets: %w", err)
	}
	return listed, nil
}

func (t *target) newProducerID(ctx context.Context) (id int64, epoch int16, err error) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.ProducerID, req.ProducerEpoch = -1, -1
	resp, err := req.RequestWith(ctx, t.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("init producer id: %w", err)
	}
	return resp.ProducerID, resp.ProducerEpoch, nil
}

// fetchByName keeps a Fetch below version 13, which would want topic ids.
type fetchByName struct{ *kmsg.FetchRequest }

func (fetchByName) MaxVersion() int16 { return 12 }

// fetch reads committed batches at offset; none there is an empty answer, not a wait.
func (t *target) fetch(ctx context.Context, leader int32, tp record.TopicPartition, offset int64) (record.Batches, error) {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = -1, 0, 0, fetchBytes, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = tp.Partition, offset, fetchBytes, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.Partitions = tp.Topic, append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	kresp, err := t.cl.Broker(int(leader)).RetriableRequest(ctx, fetchByName{req})
	if err != nil {
		return nil, fmt.Errorf("fetch %v at %d: %w", tp, offset, err)
	}
	resp := kresp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, fmt.Errorf("fetch %v at %d: %w", tp, offset, err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("fetch %v at %d: the answer is about other partitions", tp, offset)
	}
	got := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return nil, fmt.Errorf("fetch %v at %d: %w", tp, offset, err)
	}
	return got.RecordBatches, nil
}
