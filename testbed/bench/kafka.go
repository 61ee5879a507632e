package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/site"
)

// kafkaEnv runs the broker as its own start script does: heap, collector, options.
var kafkaEnv = []string{"KAFKA_HEAP=1g",
	"KAFKA_JVM=-Xms1g -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -XX:MaxInlineLevel=15"}

// kafkaDefaults undo what makes the broker of the tests small.
var kafkaDefaults = []string{"num.network.threads=3", "num.io.threads=8", "background.threads=10", "log.retention.hours=168",
	"log.cleaner.dedupe.buffer.size=134217728", "broker.heartbeat.interval.ms=2000", "broker.session.timeout.ms=9000",
	"offsets.topic.num.partitions=50", "group.initial.rebalance.delay.ms=3000", "file.delete.delay.ms=1000"}

// peer is one of the two brokers.
type peer struct {
	name string
	addr string
	pid  int
	adm  *kadm.Client
}

// peers are Weir with its defaults, which syncs before it acknowledges, and Apache
// Kafka with its own, which does not. Both run all the time; one is under load.
type peers struct {
	weir, kafka *peer
	clients     *clients
	made        int    // topics
	dir         string // removed at the end
	close       func()
}

// startPeers says with errSkip what is not installed.
func startPeers(o options, row string) (*peers, error) {
	c, err := newClients(o)
	if err != nil {
		return nil, err
	}
	binary, err := filepath.Abs(o.weir)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.dir, row)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), restartWait)
	defer cancel()
	// What is deleted between turns would lie in the trash for a day.
	s, err := site.Start(ctx, site.Options{Binary: binary, Dir: filepath.Join(dir, "weir"), Config: "data: {trash: 0s}\n"})
	if err != nil {
		return nil, err
	}
	k, err := compat.LaunchKafka(filepath.Join(dir, "kafka"), kafkaEnv, kafkaDefaults...)
	if err != nil {
		s.Kill()
		return nil, err
	}
	p := &peers{clients: c, dir: dir, close: func() {
		s.Kill()
		k.Kill()
		_ = os.RemoveAll(dir)
	}}
	p.weir, err = newPeer("Weir", s.Addresses().Kafka, s.PID())
	if err == nil {
		p.kafka, err = newPeer("Kafka", k.Addr, k.PID())
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func newPeer(name, addr string, pid int) (*peer, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return nil, err
	}
	return &peer{name, addr, pid, kadm.NewClient(cl)}, nil
}

// costing adds to the figures what the work costs the broker's process, for each of
// n records. Unlike a rate it hardly depends on what else the machine does.
func (at *peer) costing(n int, work func() ([]float64, error)) ([]float64, error) {
	before, err := processTime(at.pid)
	if err != nil {
		return nil, err
	}
	got, err := work()
	if err != nil {
		return nil, err
	}
	after, err := processTime(at.pid)
	return append(got, float64((after-before).Microseconds())/float64(n)), err
}

// ticksPerSecond is the unit of /proc/PID/stat, USER_HZ: 100 on every Linux of today.
const ticksPerSecond = 100

// processTime is the processor time that a process has used.
func processTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold blanks; utime and stime are the 12th and 13th after it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// withTopic gives use a new topic, and deletes it.
func (p *peers) withTopic(at *peer, partitions int32, use func(topic string) ([]float64, error)) ([]float64, error) {
	if err := warm(p.dir); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p.made++
	topic := fmt.Sprintf("bench-%d", p.made)
	if _, err := at.adm.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		return nil, err
	}
	got, err := use(topic)
	ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, deleted := at.adm.DeleteTopic(ctx, topic)
	return got, errors.Join(err, deleted)
}

// compare lets both brokers take turns at the same work.
func (p *peers) compare(o options, t *table, measures []measure, work func(at *peer) ([]float64, error)) error {
	of := func(at *peer) side { return side{at.name, func() ([]float64, error) { return work(at) }} }
	return t.compare(o.pairs, measures, of(p.weir), of(p.kafka))
}

// resident compares the memory of the two, after what was done to them.
func (p *peers) resident(t *table, after string) error {
	weir, err := residentMiB(p.weir.pid)
	if err != nil {
		return err
	}
	kafka, err := residentMiB(p.kafka.pid)
	if err != nil {
		return err
	}
	t.add("resident after "+after, figure(weir)+" MiB", figure(kafka)+" MiB Kafka", figure(weir/kafka), "<= 0.2")
	return nil
}

const (
	loadPartitions = 4
	pacedSeconds   = 10
	latencyRate    = 1000 // records a second
	latencySeconds = 10
	latencyBytes   = 200
)

// pacedRates are records a second that both brokers hold, by record size.
var pacedRates = map[int]int{200: 50_000, 1024: 20_000}

// kafkaProduce is each client at full speed, and at a pace that both brokers hold:
// there a latency is the broker's and not that of a queue in the client.
func kafkaProduce(o options, t *table) error {
	return withPeers(o, t, "kafka-produce", func(p *peers) error {
		for _, client := range p.clients.all() {
			for _, size := range []int{200, 1024} {
				name := fmt.Sprintf("%s producer, acks=all, %d B", client.name, size)
				n := o.load / size
				full := []measure{{name, ">= 1.5", "records/s"}, {name + ", p99 at full speed", "<= 0.5", "ms"}, {name + ", the broker's CPU", "", "µs/record"}}
				paced := []measure{{fmt.Sprintf("%s, p99 at %d records/s", name, pacedRates[size]), "<= 0.5", "ms"}}
				if err := p.compare(o, t, full, func(at *peer) ([]float64, error) {
					return p.withTopic(at, loadPartitions, func(topic string) ([]float64, error) {
						return at.costing(n, func() ([]float64, error) { return client.produce(at.addr, topic, n, size, 0) })
					})
				}); err != nil {
					return err
				}
				if err := p.compare(o, t, paced, func(at *peer) ([]float64, error) {
					return p.withTopic(at, loadPartitions, func(topic string) ([]float64, error) {
						got, err := client.produce(at.addr, topic, pacedRates[size]*pacedSeconds, size, pacedRates[size])
						return got[len(got)-1:], err
					})
				}); err != nil {
					return err
				}
			}
		}
		return p.resident(t, "the producers")
	})
}

// kafkaConsume is a consumer that catches up from the start of a topic.
func kafkaConsume(o options, t *table) error {
	const size = 1024
	return withPeers(o, t, "kafka-consume", func(p *peers) error {
		n := o.load / size
		for _, at := range []*peer{p.weir, p.kafka} {
			if _, err := at.adm.CreateTopic(context.Background(), loadPartitions, 1, nil, topicName); err != nil {
				return err
			}
			if _, err := p.clients.librdkafka().produce(at.addr, topicName, n, size, 0); err != nil {
				return err
			}
		}
		for _, client := range p.clients.all() {
			name := fmt.Sprintf("%s consumer catches up, %d B", client.name, size)
			measures := []measure{{name, ">= 1.2", "records/s"}, {name + ", the broker's CPU", "", "µs/record"}}
			if err := p.compare(o, t, measures, func(at *peer) ([]float64, error) {
				return at.costing(n, func() ([]float64, error) { return client.consume(at.addr, topicName, loadPartitions, n) })
			}); err != nil {
				return err
			}
		}
		return p.resident(t, "the consumers")
	})
}

// kafkaLatency is from before a record is produced until after it is consumed.
func kafkaLatency(o options, t *table) error {
	return withPeers(o, t, "kafka-latency", func(p *peers) error {
		name := fmt.Sprintf("produced to consumed at %d records/s, librdkafka", latencyRate)
		for _, linger := range []string{"0", "5"} {
			what := name + ", linger.ms=" + linger
			measures := []measure{{what + ", p50", "", "ms"}, {what + ", p99", "<= 0.5", "ms"}}
			if err := p.compare(o, t, measures, func(at *peer) ([]float64, error) {
				return p.withTopic(at, 1, func(topic string) ([]float64, error) { return p.clients.latency(at.addr, topic, linger) })
			}); err != nil {
				return err
			}
		}
		return p.resident(t, "these")
	})
}

func withPeers(o options, t *table, row string, measure func(p *peers) error) error {
	p, err := startPeers(o, row)
	if errors.Is(err, exec.ErrNotFound) || compat.ToolMissing(err) {
		t.add(row, "skipped: "+err.Error(), "", "", "")
		return nil
	}
	if err != nil {
		return err
	}
	defer p.close()
	return measure(p)
}
