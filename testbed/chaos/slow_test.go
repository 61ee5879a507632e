package chaos_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/testbed/site"
)

const (
	// slowConnections send a byte a second each.
	slowConnections = 10_000
	// slowAddresses is how many loopback addresses they come from.
	slowAddresses = 10
	// slowRounds is how many bytes each sends, at least, while the client works.
	slowRounds = 5
	// slowBytes bounds the memory of the broker per such connection.
	slowBytes = 64 << 10
)

// TestSlowConnectionsDisturbNobody has ten thousand connections send a Metadata request
// at a byte a second while one client produces and consumes. It needs a weir binary
// and as many descriptors: make chaos runs it.
func TestSlowConnectionsDisturbNobody(t *testing.T) {
	if os.Getenv("WEIR_CHAOS") == "" {
		t.Skip("needs bin/weir: make chaos runs this test")
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < slowConnections+1000 {
		t.Skipf("%d descriptors are not enough for %d connections: ulimit -n (%v)", files.Cur, slowConnections, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s, err := site.Start(ctx, site.Options{Dir: t.TempDir() + "/data",
		Config: fmt.Sprintf("kafka: {max.connections: %d, max.connections.per.ip: %d}\n", slowConnections+100, slowConnections/slowAddresses+100)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	before := pay(ctx, t, s.Addresses().Kafka, "before")
	slow := openSlow(ctx, t, s.Addresses().Kafka)
	rss := resident(t, s)
	during := pay(ctx, t, s.Addresses().Kafka, "during")
	for i := 0; slow.rounds.Load() < slowRounds; i++ {
		during = max(during, pay(ctx, t, s.Addresses().Kafka, fmt.Sprint("during-", i)))
	}
	if n := slow.lost.Load(); n > 0 {
		t.Errorf("%d of the slow connections were closed: they were not there all the time", n)
	}
	t.Logf("2,000 records before: %v, among %d slow connections at most: %v, %d MiB resident", before, slowConnections, during, rss>>20)
	if most := int64(slowConnections*slowBytes + 128<<20); rss > most {
		t.Errorf("%d MiB resident, at most %d", rss>>20, most>>20)
	}
	slow.close()
}

// pay produces and consumes, and fails unless all of it works. It says how long it took.
func pay(ctx context.Context, t *testing.T, addr, topic string) time.Duration {
	t.Helper()
	const records = 2000
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic(topic),
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	start := time.Now()
	for i := range records / 100 {
		var rs []*kgo.Record
		for j := range 100 {
			rs = append(rs, &kgo.Record{Value: fmt.Append(nil, i, j)})
		}
		if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
			t.Fatalf("%s: produce: %v", topic, err)
		}
	}
	for n := 0; n < records; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("%s: after %d records: %v", topic, n, err)
		}
		n += fs.NumRecords()
	}
	return time.Since(start)
}

// slow is the connections that send a byte a second.
type slow struct {
	conns  []net.Conn
	lost   atomic.Int64
	rounds atomic.Int64
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func openSlow(ctx context.Context, t *testing.T, addr string) *slow {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	s := &slow{cancel: cancel}
	for i := range slowConnections {
		from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%slowAddresses))}
		nc, err := (&net.Dialer{LocalAddr: from}).DialContext(ctx, "tcp", addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		s.conns = append(s.conns, nc)
		if _, err := nc.Write(slowFrame()[:1]); err != nil {
			t.Fatal(err)
		}
	}
	s.done.Go(func() { s.drip(ctx) })
	return s
}

// slowFrame is a request so small that a byte a second is in time for it.
func slowFrame() []byte {
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(4)
	req.Topics = []kmsg.MetadataRequestTopic{}
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("slow")).AppendRequest(nil, req, 1)
}

// drip sends every connection its next byte each second, request after request.
func (s *slow) drip(ctx context.Context) {
	frame := slowFrame()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for at := 1; ; at++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, nc := range s.conns {
			if _, err := nc.Write(frame[at%len(frame) : at%len(frame)+1]); err != nil && ctx.Err() == nil {
				s.lost.Add(1)
			}
		}
		s.rounds.Add(1)
	}
}

func (s *slow) close() {
	s.cancel()
	s.done.Wait()
	for _, nc := range s.conns {
		_ = nc.Close()
	}
}

// resident is the broker's memory in bytes.
func resident(t *testing.T, s *site.Site) (bytes int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var total, pages int64
	if _, err := fmt.Sscan(string(text), &total, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
