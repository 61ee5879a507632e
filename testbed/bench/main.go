// Command bench measures Weir's log against what the same disk, socket and
// machine do without it, in one run, taking turns: A B A B. Times differ from
// machine to machine and from hour to hour; the ratio of two sides that took
// turns is what can be compared. It prints figures and judges none.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"
)

const minPairs = 5 // fewer say nothing on a shared machine

// options is the command line.
type options struct {
	dir        string
	pairs      int
	bytes      int // per run of the append and fetch rows
	waiters    int
	partitions []int
	wear       time.Duration // of the wear row
	logGiB     int           // in the log that is restarted
	weir       string        // the binary, for the rows restart and kafka-*
	load       int           // bytes of one run of a client in the rows kafka-*
	rows       []string
	cpuProfile string
}

// rows are the measurements, in the order of the table.
var rows = []struct {
	name string
	run  func(o options, t *table) error
}{
	{"append", durableAppend},
	{"waiters", waiters},
	{"partitions", spread},
	{"fetch", catchUp},
	{"wear", wear},
	{"restart", restart},
	{"create", create},
	{"filled", filled},
	{"mqtt-publish", mqttPublish},
	{"mqtt-fanout", mqttFanOut},
	{"mqtt-idle", mqttIdle},
	{"mqtt-filters", mqttFilters},
	{"mqtt-storm", mqttStorm},
	{"mqtt-offline", mqttOffline},
	{"allocations", allocations},
	{"kafka-produce", kafkaProduce},
	{"kafka-consume", kafkaConsume},
	{"kafka-latency", kafkaLatency},
	{"kafka-transactions", kafkaTransactions},
	{"kafka-ceiling", kafkaCeiling},
}

func main() {
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	var partitions, chosen string
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	f := flag.NewFlagSet("bench", flag.ExitOnError)
	f.StringVar(&o.dir, "dir", ".cache/bench", "a folder on the disk to measure; a folder below it is made and removed")
	f.IntVar(&o.pairs, "pairs", minPairs, "how often each two sides take turns")
	f.IntVar(&o.bytes, "bytes", 64<<20, "payload bytes of one run")
	f.IntVar(&o.waiters, "waiters", 1000, "who wait for a record of their own at the same time")
	f.StringVar(&partitions, "partitions", "1000,10000", "numbers of partitions to spread over, and to restart with the last of")
	f.DurationVar(&o.wear, "wear", 150*time.Second, "how long the row wear writes: some checkpoints, which come every minute")
	f.IntVar(&o.logGiB, "log", 0, "GiB in the log of few partitions before the row restart kills it; the goal is of 10, which take minutes to write")
	f.StringVar(&o.weir, "weir", "bin/weir", "the binary that is killed and started again, or runs beside Kafka")
	f.IntVar(&o.load, "load", 400<<20, "payload bytes of one run of a client against Weir or Kafka")
	f.StringVar(&chosen, "rows", strings.Join(names, ","), "what to measure")
	f.StringVar(&o.cpuProfile, "cpuprofile", "", "write a CPU profile of the run to this file")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.rows = strings.Split(chosen, ",")
	for _, name := range o.rows {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("--rows %s: there is no row %q; the rows are %s", chosen, name, strings.Join(names, ", "))
		}
	}
	for p := range strings.SplitSeq(partitions, ",") {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 {
			return o, fmt.Errorf("--partitions %s: %q is no number of partitions", partitions, p)
		}
		o.partitions = append(o.partitions, n)
	}
	if o.pairs < minPairs {
		return o, fmt.Errorf("--pairs %d: at least %d", o.pairs, minPairs)
	}
	if o.bytes < 1<<20 || o.waiters < 1 {
		return o, fmt.Errorf("--bytes %d --waiters %d: at least 1 MiB and one waiter", o.bytes, o.waiters)
	}
	return o, nil
}

func run(o options) (err error) {
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	kind, err := fileSystem(o.dir)
	if err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp(o.dir, "run-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if o.cpuProfile != "" {
		f, err := os.Create(o.cpuProfile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Printf("%s/%s, %d cores, %s, file system %s, %d pairs\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), kind, o.pairs)
	t := &table{progress: os.Stdout}
	for _, r := range rows {
		if !slices.Contains(o.rows, r.name) {
			continue
		}
		if err := r.run(o, t); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	t.print(os.Stdout)
	return nil
}

// fileSystem names what dir lies on and refuses memory: a sync costs nothing there.
func fileSystem(dir string) (string, error) {
	kind, err := fileSystemType(dir)
	if err != nil {
		return "", err
	}
	if kind == "tmpfs" || kind == "ramfs" {
		return "", fmt.Errorf("%s is on %s, which is memory: a sync there costs nothing and the figures would mean nothing; give --dir a folder on a disk", dir, kind)
	}
	return kind, nil
}
