package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/site"
)

const (
	restarts     = 3
	fewParts     = 10
	largeValue   = 8 << 10         // bytes of a record that is to make the log long
	restartWait  = 5 * time.Minute // a measurement that takes longer is a finding of its own
	idleBefore   = 3 * time.Second // what a garbage collection after the start needs
	clientFlight = 1 << 20         // bytes of one produce request
)

// restart kills, stops and starts the binary with few and with many partitions.
// There is no other side: the goals are of a user who waits.
func restart(o options, t *table) error {
	if _, err := os.Stat(o.weir); err != nil {
		return fmt.Errorf("%w: run make build, or give --weir", err)
	}
	binary, err := filepath.Abs(o.weir)
	if err != nil {
		return err
	}
	if err := restartWith(o, t, binary, fewParts, o.logGiB); err != nil {
		return err
	}
	return restartWith(o, t, binary, o.partitions[len(o.partitions)-1], 0)
}

// restartWith restarts a box with data in each of so many partitions, of which so
// many GiB are there before it is killed for the first time.
func restartWith(o options, t *table, binary string, parts, gib int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*restartWait)
	defer cancel()
	dir := filepath.Join(o.dir, fmt.Sprintf("restart-%d", parts))
	defer os.RemoveAll(dir)
	// Room for Weir's own topics beside them.
	config := fmt.Sprintf("kafka: {max.partitions: %d}\ntopics: [{name: %s, partitions: %d}]\n", parts+200, topicName, parts)
	s, err := site.Start(ctx, site.Options{Binary: binary, Dir: dir, Config: config, ReadyTimeout: restartWait})
	if err != nil {
		return err
	}
	defer s.Kill()
	what := fmt.Sprintf("%d partitions with %d MiB", parts, gib<<10+(restarts*o.bytes)>>20)
	if err := fill(ctx, s, parts, int64(gib)<<30, largeValue); err != nil {
		return err
	}
	killed, err := startAgain(ctx, s, func() error {
		// Anew each time: what one start has replayed the next need not.
		defer s.Kill()
		return fill(ctx, s, parts, int64(o.bytes), valueBytes)
	})
	if err != nil {
		return err
	}
	stopped, err := startAgain(ctx, s, func() error {
		code, err := s.Stop(restartWait)
		if err == nil && code != 0 {
			err = fmt.Errorf("weir stopped with code %d", code)
		}
		return err
	})
	if err != nil {
		return err
	}
	time.Sleep(idleBefore)
	rss, err := residentMiB(s.PID())
	if err != nil {
		return err
	}
	t.alone(measure{"ready after kill -9, " + what, "<= 2 (10 GiB log)", "s"}, killed)
	t.alone(measure{"ready after a clean stop, " + what, "<= 1 (10000 partitions)", "s"}, stopped)
	t.alone(measure{"resident, idle, " + what, "<= 30 (10), <= 120 (10000)", "MiB"}, []float64{rss})
	return nil
}

// startAgain is how long the process takes from its start until it is ready.
func startAgain(ctx context.Context, s *site.Site, end func() error) (took []float64, err error) {
	for range restarts {
		if err := end(); err != nil {
			return nil, err
		}
		start := time.Now()
		if err := s.Start(ctx); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start).Seconds())
	}
	return took, nil
}

// fill produces n bytes, records of the same size round robin over all partitions.
func fill(ctx context.Context, s *site.Site, parts int, n int64, size int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(clientFlight), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer client.Close()
	value := make([]byte, size)
	failed := make(chan error, 1)
	for i := range n / int64(size) {
		client.Produce(ctx, &kgo.Record{Topic: topicName, Partition: int32(i % int64(parts)), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// residentMiB is VmRSS of a process.
func residentMiB(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, err := strconv.Atoi(fields[1])
			return float64(kib) / 1024, err
		}
	}
	return 0, errors.New("no VmRSS in /proc/PID/status")
}
