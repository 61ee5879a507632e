package compat_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/compat"
)

// A Kafka Connect worker carries the lines of a file into a topic, exactly once, and
// from there into another file, although it is killed meanwhile.
func TestConnectCarriesAFile(t *testing.T) {
	t.Parallel()
	s := startWeir(t, "")
	makeTopic(t, s, "lines", 1)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.txt"), filepath.Join(dir, "out.txt")
	w := &worker{rest: freeAddress(t), properties: filepath.Join(dir, "worker.properties")}
	config := fmt.Sprintf(`bootstrap.servers=%s
group.id=connect
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
config.storage.topic=connect-configs
config.storage.replication.factor=1
offset.storage.topic=connect-offsets
offset.storage.replication.factor=1
status.storage.topic=connect-status
status.storage.replication.factor=1
offset.flush.interval.ms=500
scheduled.rebalance.max.delay.ms=0
session.timeout.ms=6000
heartbeat.interval.ms=500
exactly.once.source.support=enabled
listeners=http://%s
`, s.Addresses().Kafka, w.rest)
	if err := os.WriteFile(w.properties, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	appendLines(t, in, lines("first", 200))
	w.run(t)
	w.put(t, "source", map[string]string{"connector.class": "FileStreamSource", "file": in, "topic": "lines", "tasks.max": "1"})
	w.put(t, "sink", map[string]string{"connector.class": "FileStreamSink", "file": out, "topics": "lines", "tasks.max": "1"})
	waitForLine(t, out, "first-00199")
	w.m.kill()
	appendLines(t, in, lines("second", 200))
	w.run(t)
	waitForLine(t, out, "second-00199")
	w.m.kill()
	var got strings.Builder
	for _, value := range readCommittedLines(t, s, "lines", "second-00199") {
		got.WriteString(value + "\n")
	}
	if want := lines("first", 200) + lines("second", 200); got.String() != want {
		t.Errorf("the topic holds %d bytes, the file %d: lines are lost, twice, or in another order", got.Len(), len(want))
	}
}

// worker is a Connect worker in distributed mode.
type worker struct {
	rest, properties string
	m                *member
}

func (w *worker) run(t *testing.T) {
	t.Helper()
	d := compat.JavaTool(compat.JavaVersions[len(compat.JavaVersions)-1], "org.apache.kafka.connect.cli.ConnectDistributed")
	w.m = start(t, d, nil, &collector{lines: map[string]int{}}, 0, w.properties)
	poll(t, "the worker's REST interface", func() bool {
		resp, err := http.Get("http://" + w.rest + "/connectors")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// put makes a connector. The worker says 409 while it rebalances, and 5xx while it starts.
func (w *worker) put(t *testing.T, name string, config map[string]string) {
	t.Helper()
	body, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	poll(t, "connector "+name, func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+w.rest+"/connectors/"+name+"/config", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		if resp.StatusCode == http.StatusBadRequest {
			t.Fatalf("connector %s: %s", name, answer)
		}
		return resp.StatusCode < 300
	})
}

// poll asks until it is so; limit is for a worker that hangs.
func poll(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s is not there after %v", what, limit)
		}
	}
}

func waitForLine(t *testing.T, file, line string) {
	t.Helper()
	poll(t, line+" in "+filepath.Base(file), func() bool {
		text, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(text), line+"\n")
	})
}

func appendLines(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
