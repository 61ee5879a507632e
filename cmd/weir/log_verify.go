package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
)

type logVerifyCmd struct {
	Path string `arg:"" help:"Data folder, a partition's folder in it, or segment files. While the appliance runs, what it is writing may look unfinished."`
}

type verifyReport struct {
	Files    int      `json:"files"`
	Batches  int64    `json:"batches"`
	Records  int64    `json:"records"`
	Bytes    int64    `json:"bytes"`
	Problems []string `json:"problems"`
}

func (c *logVerifyCmd) Run(s *session) error {
	if data, only, ok := dataFolder(c.Path); ok {
		return verifyData(s, data, only)
	}
	return c.verifyFiles(s)
}

// dataFolder recognises a data folder, and a partition's folder inside one.
func dataFolder(name string) (data string, only []string, ok bool) {
	name = filepath.Clean(name)
	if info, err := os.Stat(filepath.Join(name, "topics")); err == nil && info.IsDir() {
		return name, nil, true
	}
	topics := filepath.Dir(name)
	if info, err := os.Stat(name); err != nil || !info.IsDir() || filepath.Base(topics) != "topics" {
		return "", nil, false
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(topics), "wal")); err != nil {
		return "", nil, false
	}
	return filepath.Dir(topics), []string{filepath.Base(name)}, true
}

// dataReport is what verify says of a data folder.
type dataReport struct {
	Data    string `json:"data"`
	Running bool   `json:"running"`
	topic.Verified
}

func verifyData(s *session, data string, only []string) error {
	lock, err := lockData(data, toRead)
	if err != nil && !errors.Is(err, errRunning) {
		return err
	}
	report := dataReport{Data: data, Running: err != nil}
	if lock != nil {
		defer lock.Close()
	}
	if report.Verified, err = topic.Verify(vfs.OS(data), only...); err != nil {
		return fmt.Errorf("cannot read all of %s: %w", data, err)
	}
	err = s.show(report, func(w io.Writer) {
		for _, f := range report.Findings {
			fmt.Fprintln(w, "! "+findingText(f))
		}
		if report.Running {
			fmt.Fprintln(w, "The appliance is running: what it is writing just now may look unfinished. Stop it for a verdict.")
		}
		fmt.Fprintf(w, "%d partitions, %d segments, %d batches, %s, %d rounds of the write-ahead log to replay: %s\n",
			report.Partitions, report.Segments, report.Batches, bytesText(report.Bytes), report.Rounds, problems(len(report.Findings)))
	})
	if err == nil && len(report.Findings) > 0 {
		err = failf(exitUnhealthy, "%s has %s; 'weir log repair %s' shows what can be done", data, problems(len(report.Findings)), data)
	}
	return err
}

func problems(n int) string {
	if n == 1 {
		return "1 problem"
	}
	return fmt.Sprintf("%d problems", n)
}

func findingText(f topic.Finding) string {
	text := f.Kind + ": " + f.File
	if f.To > f.From {
		text += fmt.Sprintf(", bytes %d to %d", f.From, f.To)
	}
	text += ": " + f.Text
	if f.First >= 0 {
		text += fmt.Sprintf(" (offsets %d to %d are lost)", f.First, f.Last)
	}
	if f.Known {
		text += "; known already: readers are taken past it"
	}
	return text
}

func (c *logVerifyCmd) verifyFiles(s *session) error {
	files, err := segments(c.Path)
	if err != nil {
		return err
	}
	report := verifyReport{Files: len(files), Problems: []string{}}
	next := map[string]int64{} // folder -> offset that must follow
	for _, file := range files {
		if err := verifySegment(file, next, &report); err != nil {
			report.Problems = append(report.Problems, err.Error())
		}
	}
	err = s.show(report, func(w io.Writer) {
		for _, p := range report.Problems {
			fmt.Fprintln(w, "! "+p)
		}
		fmt.Fprintf(w, "%d files, %d batches, %d records, %s: %s\n",
			report.Files, report.Batches, report.Records, bytesText(report.Bytes), problems(len(report.Problems)))
	})
	if err == nil && len(report.Problems) > 0 {
		err = failf(exitUnhealthy, "%s: %d of %d segment files have a problem", c.Path, len(report.Problems), len(files))
	}
	return err
}

func verifySegment(file string, next map[string]int64, report *verifyReport) error {
	dir := filepath.Dir(file)
	return readSegment(file, func(_ int64, b record.Batch) error {
		if err := b.Validate(); err != nil {
			return err
		}
		records, err := b.Records()
		if err != nil {
			return err
		}
		if want, ok := next[dir]; ok && b.BaseOffset() < want {
			return errors.New("offset " + fmt.Sprint(b.BaseOffset()) + " stands again: " + fmt.Sprint(want) + " should follow")
		}
		next[dir] = b.NextOffset()
		report.Batches++
		report.Records += int64(len(records))
		report.Bytes += int64(len(b))
		return nil
	})
}

type logRepairCmd struct {
	Data string `arg:"" help:"Data folder. The appliance must be stopped."`
	Yes  bool   `help:"Do it. Without, only what would be done is printed."`
}

// repairReport is what repair says.
type repairReport struct {
	Data     string          `json:"data"`
	Findings []topic.Finding `json:"findings"`
	Done     []string        `json:"done"`
}

func (c *logRepairCmd) Run(s *session) error {
	if _, only, ok := dataFolder(c.Data); !ok || only != nil {
		return failf(exitNotFound, "%s is no data folder: it has no folder \"topics\"", c.Data)
	}
	lock, err := lockData(c.Data, toWrite)
	if err != nil {
		return err
	}
	defer lock.Close()
	found, err := topic.Verify(vfs.OS(c.Data))
	if err != nil {
		return fmt.Errorf("cannot read all of %s: %w", c.Data, err)
	}
	report := repairReport{Data: c.Data, Findings: found.Findings, Done: []string{}}
	if c.Yes {
		done, err := topic.Repair(vfs.OS(c.Data), found.Findings)
		report.Done = append(report.Done, done...)
		if err != nil {
			return err
		}
	}
	return s.show(report, func(w io.Writer) {
		for _, f := range report.Findings {
			mend := f.Mend
			if mend == "" {
				mend = "nothing to do here: the next start deals with it"
			}
			fmt.Fprintf(w, "! %s\n  -> %s\n", findingText(f), mend)
		}
		for _, d := range report.Done {
			fmt.Fprintln(w, "done: "+d)
		}
		switch {
		case len(report.Findings) == 0:
			fmt.Fprintln(w, "Nothing is damaged.")
		case !c.Yes:
			fmt.Fprintln(w, "Nothing was changed. Run it again with --yes to do this; no bytes are deleted.")
		}
	})
}

// errRunning is returned for a data folder that a process has open.
var errRunning = errors.New("the appliance, or another weir log, is running")

// How a data folder is locked: many may read one that nobody writes.
const (
	toRead  = unix.LOCK_SH
	toWrite = unix.LOCK_EX
)

const (
	// lockPatience is how long a process that is just ending, or starting a child, is
	// waited for, as the appliance does at its start.
	lockPatience = time.Second
	lockRetry    = 50 * time.Millisecond
)

// lockData takes the lock of a data folder that the appliance has while it runs.
func lockData(data string, how int) (*os.File, error) {
	d, err := os.Open(data)
	if err != nil {
		return nil, failf(exitNotFound, "cannot open the data folder: %w", err)
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(lockRetry) {
		if err = unix.Flock(int(d.Fd()), how|unix.LOCK_NB); err == nil {
			return d, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
	}
	_ = d.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, failf(exitFailed, "%w on %s: stop it first", errRunning, data)
	}
	return nil, fmt.Errorf("cannot lock %s: %w", data, err)
}
