package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/device"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
)

// What the row wear writes: a small site.
const (
	wearParts = 20
	wearRate  = 100 // messages a second
	wearValue = 250 // bytes
	wearImage = 512 << 20
	warmUps   = 3
)

// flash is the profile's.
var flash, _ = appliance.ProfileFlash.Pace()

// wear counts what reaches the device for each byte of payload: Weir in its flash
// profile, and a file per partition that is synced after each message, both at the
// same pace at the same time, each on a file system of its own.
//
// Messages come one by one, or as sensors that share a clock send them: one for each
// partition at once.
func wear(o options, t *table) error {
	for _, burst := range []int64{1, wearParts} {
		if err := wearIn(o, t, burst); errors.Is(err, errNoImage) {
			t.note("wear: skipped: %v", err)
			fmt.Fprintf(t.progress, "wear: skipped: %v\n", err)
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

func wearIn(o options, t *table, burst int64) error {
	mine, err := newImage(o.dir, "wear-weir")
	if err != nil {
		return err
	}
	defer mine.remove()
	other, err := newImage(o.dir, "wear-files")
	if err != nil {
		return err
	}
	defer other.remove()
	sides := []*wearSide{{name: "Weir", image: mine, prepare: weirWrites}, {name: "an fdatasync each", image: other, prepare: filesWrite}}
	results := make(chan error, len(sides))
	for _, s := range sides {
		go func() { results <- s.run(o.wear, burst) }()
	}
	if err := errors.Join(<-results, <-results); err != nil {
		return err
	}
	what := fmt.Sprintf("device bytes per payload byte, %d msg/s of %d B in bursts of %d over %d partitions, flash profile, %v, checkpoints every %v",
		wearRate, wearValue, burst, wearParts, o.wear, flash.Checkpoint)
	a, b := sides[0].amplification(), sides[1].amplification()
	t.add(what, figure(a), figure(b)+" "+sides[1].name, fmt.Sprintf("1/%s", figure(b/a)), "<= 1/20")
	for _, s := range sides {
		t.note("%s: %s: %d messages, %d payload bytes, %d device bytes; %s", what, s.name, s.messages, s.messages*wearValue, s.written, s.detail)
	}
	return nil
}

// wearSide is one of the two.
type wearSide struct {
	name    string
	image   *image
	prepare func(dir string) (writes, error)

	messages int64
	written  int64 // bytes of the device
	detail   string
}

// writes is what a side does: send takes the nth message, finish makes all durable
// and says what there is to say.
type writes struct {
	send   func(n int64) error
	finish func() (detail string, err error)
}

func (w *wearSide) amplification() float64 { return float64(w.written) / float64(w.messages*wearValue) }

// run counts what the writes of d write, what the file system still holds in memory
// included. What preparing them takes is not counted.
func (w *wearSide) run(d time.Duration, burst int64) error {
	dev, err := device.Find(w.image.dir)
	if err != nil {
		return err
	}
	do, err := w.prepare(w.image.dir)
	if err != nil {
		return err
	}
	before, err := w.flushed(dev)
	if err != nil {
		return err
	}
	if err := w.pace(d, burst, do.send); err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	last, err := dev.Written()
	if err != nil {
		return err
	}
	detail, err := do.finish()
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	after, err := w.flushed(dev)
	w.written = after - before
	w.detail = fmt.Sprintf("%d device bytes until the last message%s", last-before, detail)
	return err
}

func (w *wearSide) flushed(dev *device.Device) (int64, error) {
	if err := w.image.flush(); err != nil {
		return 0, err
	}
	return dev.Written()
}

// pace calls send for each message when its burst is due, until d is over.
func (w *wearSide) pace(d time.Duration, burst int64, send func(n int64) error) error {
	start := time.Now()
	for ; ; w.messages++ {
		due := time.Duration(w.messages/burst*burst) * time.Second / wearRate
		if due >= d {
			return nil
		}
		time.Sleep(time.Until(start.Add(due)))
		if err := send(w.messages); err != nil {
			return err
		}
	}
}

// wearBatch is a message as a record batch of its own.
func wearBatch() (record.Batch, error) {
	value := make([]byte, wearValue)
	if _, err := rand.Read(value); err != nil {
		return nil, err
	}
	return record.NewBatch(record.None, record.Record{Timestamp: time.Now().UnixMilli(), Value: value})
}

func weirWrites(dir string) (w writes, err error) {
	b, err := wearBatch()
	if err != nil {
		return w, err
	}
	set, err := topic.Open(topic.Options{
		FS: vfs.OS(dir), Catalog: &catalog{entries: map[string]topic.Entry{}}, LeaderEpoch: 1,
		CheckpointInterval: flash.Checkpoint, WAL: wal.Options{Linger: flash.Linger, BlockLinger: flash.BlockLinger},
	})
	if err != nil {
		return w, err
	}
	made, err := set.Create(topicName, topic.Spec{Partitions: wearParts})
	// A box makes its files once and uses them for years: they are made before.
	for range warmUps {
		if err == nil {
			err = produce(made.Partitions(), b, wearParts, 1, wearParts)
		}
		if err == nil {
			err = set.Checkpoint()
		}
	}
	if err != nil {
		return w, errors.Join(err, set.Close())
	}
	win, rounds, written := newWindow(wearRate), set.WAL().Rounds.Load(), set.WAL().WrittenBytes.Load()
	w.send = func(n int64) error {
		win.acquire()
		made.Partitions()[n%wearParts].Append(b, win)
		return nil
	}
	w.finish = func() (string, error) {
		err := win.drain()
		detail := fmt.Sprintf("; %d commit rounds, %d bytes of them", set.WAL().Rounds.Load()-rounds, set.WAL().WrittenBytes.Load()-written)
		return detail, errors.Join(err, set.Close())
	}
	return w, nil
}

func filesWrite(dir string) (w writes, err error) {
	b, err := wearBatch()
	if err != nil {
		return w, err
	}
	var files [wearParts]vfs.File
	for i := range files {
		if files[i], err = vfs.OS(dir).Create(fmt.Sprintf("%d.log", i)); err != nil {
			return w, err
		}
	}
	w.send = func(n int64) error {
		f := files[n%wearParts]
		if _, err := f.WriteAt(b, n/wearParts*int64(len(b))); err != nil {
			return err
		}
		return f.Sync()
	}
	w.finish = func() (string, error) {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		return "", err
	}
	return w, nil
}

// image is an ext4 file system in a file, mounted.
type image struct{ file, dir string }

// errNoImage is why none can be made here.
var errNoImage = errors.New("no file system of its own to measure")

func newImage(dir, name string) (*image, error) {
	m := &image{file: filepath.Join(dir, name+".img"), dir: filepath.Join(dir, name)}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: mounting one needs root", errNoImage)
	}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Create(m.file)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(wearImage), f.Close()); err != nil {
		return nil, err
	}
	// Nothing left for the kernel to initialise while it is measured.
	for _, command := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", m.file},
		{"mount", "-o", "loop,noatime", m.file, m.dir},
	} {
		if err := execute(command); err != nil {
			os.Remove(m.file)
			return nil, fmt.Errorf("%w: %w", errNoImage, err)
		}
	}
	return m, nil
}

func (m *image) remove() {
	if err := execute([]string{"umount", "--lazy", m.dir}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	os.Remove(m.dir)
	os.Remove(m.file)
}

func execute(command []string) error {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
