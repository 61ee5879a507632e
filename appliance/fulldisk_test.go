package appliance_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/wal"
)

// The tests of this file run a broker in a process of its own on a real file system
// of 64 MiB that somebody else fills to the last byte.

const (
	fullDiskEnv    = "WEIR_FULLDISK_DATA"
	fullDiskBytes  = 64 << 20
	fullDiskRecord = 8 << 10
)

// TestFullDiskBroker is not a test but the broker that the tests below start.
func TestFullDiskBroker(t *testing.T) {
	dir := os.Getenv(fullDiskEnv)
	if dir == "" {
		t.Skip("it is the process that TestFullDisk starts")
	}
	b, err := appliance.Open(appliance.Options{
		Data: dir, Kafka: "127.0.0.1:0", ReserveBytes: 8 << 20, CheckpointInterval: time.Hour,
		WAL: wal.Options{FileBytes: 1 << 20, MaxFiles: 8},
	})
	if err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
	fmt.Println("ADDRESS", b.KafkaAddr())
	done := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(done) }()
	select {
	case <-done:
	case <-b.Failed():
		fmt.Println("FAILED", b.Err())
		os.Exit(1)
	}
	if err := b.Close(); err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// smallDisk is a mounted file system.
type smallDisk struct {
	t          *testing.T
	image, dir string
}

func newSmallDisk(t *testing.T) *smallDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	if testing.Short() {
		t.Skip("it formats and mounts a file system")
	}
	d := &smallDisk{t: t, image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, fullDiskBytes); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", d.image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,noatime", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("no loop mount here: %v: %s", err, out)
	}
	t.Cleanup(d.unmount)
	return d
}

func (d *smallDisk) unmount() {
	for range 50 { // what was killed a moment ago may still hold it
		if err := unix.Unmount(d.dir, 0); err == nil || errors.Is(err, unix.EINVAL) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	d.t.Errorf("cannot unmount %s", d.dir)
}

// powerCut loses what was not synced: the file system is shut down and mounted again.
func (d *smallDisk) powerCut() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	const fsIocShutdown, noLogFlush = 0x8004587d, 2
	err = unix.IoctlSetPointerInt(int(f.Fd()), fsIocShutdown, noLogFlush)
	f.Close()
	if err != nil {
		d.t.Fatalf("FS_IOC_SHUTDOWN: %v", err)
	}
	d.unmount()
	if out, err := exec.Command("mount", "-o", "loop,noatime", d.image, d.dir).CombinedOutput(); err != nil {
		d.t.Fatalf("mount again: %v: %s", err, out)
	}
}

// fill writes a file until nothing fits any more.
func (d *smallDisk) fill() {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.dir, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) >= 512; {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *smallDisk) free() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "filler")); err != nil {
		d.t.Fatal(err)
	}
}

// fullSite is the broker's process and what it acknowledged.
type fullSite struct {
	t     *testing.T
	disk  *smallDisk
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan error
	cl    *kgo.Client
	adm   *kadm.Client
	acked []string // the values of t-0, by offset
	start int64
}

func (s *fullSite) open() {
	s.t.Helper()
	s.cmd = exec.Command(os.Args[0], "-test.run=^TestFullDiskBroker$")
	s.cmd.Env = append(os.Environ(), fullDiskEnv+"="+filepath.Join(s.disk.dir, "data"))
	s.cmd.Stderr = os.Stderr
	s.stdin, _ = s.cmd.StdinPipe()
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "ADDRESS ") {
		s.t.Fatalf("the broker does not start: %s", lines.Text())
	}
	address := strings.TrimPrefix(lines.Text(), "ADDRESS ")
	s.ended = make(chan error, 1)
	go func() {
		said := ""
		for lines.Scan() {
			said += lines.Text()
		}
		s.ended <- errors.Join(s.cmd.Wait(), errors.New(said))
	}()
	if s.cl, err = kgo.NewClient(kgo.SeedBrokers(address)); err != nil {
		s.t.Fatal(err)
	}
	s.adm = kadm.NewClient(s.cl)
}

func (s *fullSite) kill() {
	s.t.Helper()
	s.cl.Close()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	<-s.ended
}

func (s *fullSite) alive(when string) {
	s.t.Helper()
	select {
	case err := <-s.ended:
		s.t.Fatalf("%s: the broker ended: %v", when, err)
	default:
	}
}

// produceByName stays below the version that names topics by id.
type produceByName struct{ *kmsg.ProduceRequest }

func (produceByName) MaxVersion() int16 { return 12 }

// produce appends one record and returns the error that the broker answered.
func (s *fullSite) produce(name string) error {
	s.t.Helper()
	value := fmt.Sprintf("%d %s", len(s.acked), strings.Repeat("x", fullDiskRecord))
	b, err := record.NewBatch(record.None, record.Record{Value: []byte(value), Timestamp: time.Now().UnixMilli()})
	if err != nil {
		s.t.Fatal(err)
	}
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = b
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = name, append(rt.Partitions, part)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, 10_000, append(req.Topics, rt)
	resp, err := s.cl.Request(patience(s.t), produceByName{req})
	if err != nil {
		s.t.Fatalf("produce: %v", err)
	}
	got := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		if got.ErrorMessage == nil || !strings.Contains(*got.ErrorMessage, "disk full") {
			s.t.Fatalf("the error says %v, want why", got.ErrorMessage)
		}
		return err
	}
	if name == "t" {
		if got.BaseOffset != int64(len(s.acked)) {
			s.t.Fatalf("acknowledged at offset %d, want %d", got.BaseOffset, len(s.acked))
		}
		s.acked = append(s.acked, value)
	}
	return nil
}

// until produces until it is refused, or until it is not.
func (s *fullSite) until(refused bool, when string) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := s.produce("t")
		if err != nil && !errors.Is(err, kerr.KafkaStorageError) {
			s.t.Fatalf("%s: %v", when, err)
		}
		if (err != nil) == refused {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: refused is still %v: %v", when, !refused, err)
		}
		s.alive(when)
		time.Sleep(time.Millisecond) // it is asked again, as clients do
	}
}

// worksFull does what must work on a full disk.
func (s *fullSite) worksFull(when string) {
	s.t.Helper()
	s.readAll(when)
	ctx := patience(s.t)
	for n := range 200 { // a good deal more than the disk has left without its ballast
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: "t", At: int64(n), LeaderEpoch: -1, Metadata: strings.Repeat("m", 4000)})
		if err := s.adm.CommitAllOffsets(ctx, "g", offsets); err != nil {
			s.t.Fatalf("%s: commit %d: %v", when, n, err)
		}
	}
	if s.start+1 < int64(len(s.acked)) {
		s.start++
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: "t", At: s.start, LeaderEpoch: -1})
		if _, err := s.adm.DeleteRecords(ctx, offsets); err != nil {
			s.t.Fatalf("%s: delete records: %v", when, err)
		}
	}
	if _, err := s.adm.DeleteTopic(ctx, "extra"); err != nil {
		s.t.Fatalf("%s: delete topic: %v", when, err)
	}
	policy := "reject"
	if _, err := s.adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "weir.disk.policy", Value: &policy}}, "t"); err != nil {
		s.t.Fatalf("%s: alter configs: %v", when, err)
	}
	if err := s.produce("t"); !errors.Is(err, kerr.KafkaStorageError) {
		s.t.Fatalf("%s: produce: %v, want it refused still", when, err)
	}
	s.alive(when)
}

// readAll reads t as a mirror does and compares it with what was acknowledged.
func (s *fullSite) readAll(when string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(patience(s.t), 20*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.cl.OptValue(kgo.SeedBrokers).([]string)...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	for next := s.start; next < int64(len(s.acked)); {
		fetched := cl.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			s.t.Fatalf("%s: read: %v", when, err)
		}
		for _, r := range fetched.Records() {
			if r.Offset != next || string(r.Value) != s.acked[next] {
				s.t.Fatalf("%s: offset %d holds %.20q, offset %d was acknowledged with %.20q", when, r.Offset, r.Value, next, s.acked[next])
			}
			next++
		}
	}
}

// Somebody else fills the disk to the last byte, in every phase of the broker's life.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := &fullSite{t: t, disk: newSmallDisk(t)}
	s.open()
	defer func() { s.kill() }()
	extra := func(when string) {
		t.Helper()
		if _, err := s.adm.CreateTopic(patience(t), 2, 1, nil, "extra"); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if err := s.produce("extra"); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	segments := "1048576"
	if _, err := s.adm.CreateTopic(patience(t), 1, 1, map[string]*string{"segment.bytes": &segments}, "t"); err != nil {
		t.Fatal(err)
	}
	// The broker takes its reserve in the background.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if st, err := os.Stat(filepath.Join(s.disk.dir, "data", "ballast")); err == nil && st.Size() == 8<<20 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the ballast is not there")
		}
	}
	phases := []struct {
		name string
		do   func()
	}{
		{"filled while idle", func() { s.disk.fill() }},
		{"filled under load", func() {
			done := make(chan struct{})
			go func() { defer close(done); s.disk.fill() }()
			for filling := true; filling; {
				select {
				case <-done:
					filling = false
				default:
				}
				_ = s.produce("t")
			}
		}},
		{"killed and started at full", func() {
			s.disk.fill()
			s.until(true, "before the kill")
			s.kill()
			s.open()
		}},
		{"filled before the recovery", func() {
			for range 200 {
				_ = s.produce("t")
			}
			s.kill()
			s.disk.fill()
			s.open()
		}},
		{"filled before the recovery from a power cut", func() {
			for range 300 {
				_ = s.produce("t")
			}
			s.kill()
			s.disk.powerCut()
			s.disk.fill()
			s.open()
		}},
	}
	for _, phase := range phases {
		extra(phase.name)
		for range 100 {
			if err := s.produce("t"); err != nil {
				t.Fatalf("before %s: %v", phase.name, err)
			}
		}
		phase.do()
		s.until(true, phase.name)
		s.worksFull(phase.name)
		s.disk.free()
		s.until(false, phase.name+", then freed")
		s.readAll(phase.name + ", then freed")
		// So that the disk has room for the next phase.
		s.start = int64(len(s.acked)) - 1
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: "t", At: s.start, LeaderEpoch: -1})
		if _, err := s.adm.DeleteRecords(patience(t), offsets); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d records acknowledged so far", phase.name, len(s.acked))
	}
}

// The store of small tables grows on a full disk as far as the reserve lets it: a write
// of its own that failed would be its last.
func TestMetadataOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(t)
	b, err := appliance.Open(appliance.Options{Data: filepath.Join(disk.dir, "data"), Kafka: "127.0.0.1:0", ReserveBytes: 16 << 20,
		WAL: wal.Options{FileBytes: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for b.Status().Disk.BallastBytes < 16<<20 {
		time.Sleep(5 * time.Millisecond) // it is taken in the background
	}
	disk.fill()
	table := b.Metadata().Bucket("test")
	for n := range 8 {
		if err := table.Put(fmt.Sprint(n), make([]byte, 256<<10)); err != nil {
			t.Fatalf("value %d: %v", n, err)
		}
	}
	st := b.Status().Disk
	if st.BallastBytes == 0 || st.BallastBytes >= 16<<20 {
		t.Errorf("the ballast holds %d bytes after 2 MiB of metadata", st.BallastBytes)
	}
	if _, err := b.Topics().Create("t", topic.Spec{}); !errors.Is(err, record.ErrDiskFull) {
		t.Errorf("create a topic: %v", err)
	}
	disk.free()
	for _, err := b.Topics().Create("t", topic.Spec{}); err != nil; _, err = b.Topics().Create("t", topic.Spec{}) {
		if !errors.Is(err, record.ErrDiskFull) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // it resumes by itself
	}
	for deadline := time.Now().Add(20 * time.Second); b.Status().Disk.BallastBytes < 16<<20; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the ballast holds %d bytes, it was not made whole", b.Status().Disk.BallastBytes)
		}
	}
}
