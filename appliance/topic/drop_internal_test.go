package topic

import (
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/testbed/crashfs"
)

// An active segment that goes is gone once the drop is done, however late the applier
// is to begin the next one: what is dropped is to make room now.
func TestDropOfAnActiveSegmentWaitsForTheNext(t *testing.T) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	if _, err := s.Ensure(record.GapTopic, GapSpec()); err != nil {
		t.Fatal(err)
	}
	send := func() error {
		_, err := s.Append(context.Background(), p.tp, sequencedBatch(t, record.NoProducerID, -1, -1, 0, 1))
		return err
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	s.wal.CatchUp()
	writing, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Write && strings.HasSuffix(op.Name, ".log") {
			once.Do(func() {
				close(writing)
				<-goOn
			})
		}
		return nil
	}, nil)
	if err := send(); err != nil { // committed, and on its way to the segment
		t.Fatal(err)
	}
	<-writing
	ended := make(chan error, 1)
	go func() { ended <- s.drop(dropped{p: p, limit: math.MaxInt64, roll: true}) }()
	var err error
	select {
	case err = <-ended:
		t.Error("the drop is done, and the segment is still being written")
		close(goOn)
	case <-time.After(100 * time.Millisecond): // a drop that does not wait has come back by then
		close(goOn)
		err = <-ended
	}
	if err != nil {
		t.Fatal(err)
	}
	names, err := disk.List(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == "00000000000000000000.log" {
			t.Errorf("the segment that went is there: %q", names)
		}
	}
	if p.LogStartOffset() != 2 {
		t.Errorf("the log starts at %d", p.LogStartOffset())
	}
}
