package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/testbed/compat"
)

// clientLimit bounds one run of a client.
const clientLimit = 6 * time.Minute

// load is a client library under a load program: Kafka's own for Java, rdkafka/rdperf.c
// for librdkafka.
type load struct {
	name string
	// produce returns records/s and the p99 of the time to the acknowledgement, in ms.
	produce func(addr, topic string, n, size, rate int) ([]float64, error)
	consume func(addr, topic string, partitions, n int) ([]float64, error)
}

// clients are the programs that load both brokers.
type clients struct {
	rdperf string
	java   string // Kafka's version
}

// newClients builds rdperf. The error is exec.ErrNotFound when a tool is missing.
func newClients(o options) (*clients, error) {
	for _, tool := range []string{"cc", "java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%w: real Kafka beside Weir needs a C compiler with librdkafka-dev, a JDK 17 and Maven", err)
		}
	}
	_, file, _, _ := runtime.Caller(0)
	source := filepath.Join(filepath.Dir(file), "rdkafka", "rdperf.c")
	c := &clients{rdperf: filepath.Join(o.dir, "rdperf"), java: compat.JavaVersions[len(compat.JavaVersions)-1]}
	if out, err := exec.Command("cc", "-O2", "-o", c.rdperf, source, "-lrdkafka", "-lpthread").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: build rdperf.c: install librdkafka-dev: %s", exec.ErrNotFound, bytes.TrimSpace(out))
	}
	return c, nil
}

func (c *clients) all() []load { return []load{c.librdkafka(), c.javaClient()} }

func (c *clients) librdkafka() load {
	return load{"librdkafka",
		func(addr, topic string, n, size, rate int) ([]float64, error) {
			got, err := c.native("produce", addr, topic, strconv.Itoa(n), strconv.Itoa(size), strconv.Itoa(rate))
			if err != nil {
				return nil, err
			}
			return []float64{got[0], got[2]}, nil
		},
		func(addr, topic string, partitions, n int) ([]float64, error) {
			got, err := c.native("consume", addr, topic, strconv.Itoa(partitions), strconv.Itoa(n))
			if err != nil {
				return nil, err
			}
			return got[:1], nil
		}}
}

// latency is the median and the p99 of the way from producer to consumer, in ms.
func (c *clients) latency(addr, topic, linger string) ([]float64, error) {
	got, err := c.native("latency", addr, topic, strconv.Itoa(latencyRate), strconv.Itoa(latencySeconds), strconv.Itoa(latencyBytes), "linger.ms="+linger)
	if err != nil {
		return nil, err
	}
	return got[1:], nil
}

// native runs rdperf: records/s, p50 and p99.
func (c *clients) native(args ...string) ([]float64, error) {
	out, err := runClient(nil, c.rdperf, args...)
	if err != nil {
		return nil, err
	}
	var got []float64
	for _, word := range strings.Fields(out) {
		x, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, fmt.Errorf("rdperf printed %q", out)
		}
		got = append(got, x)
	}
	if len(got) != 3 {
		return nil, fmt.Errorf("rdperf printed %q", out)
	}
	return got, nil
}

// perfResult is the last line of kafka-producer-perf-test.
var perfResult = regexp.MustCompile(`(?m)^\d+ records sent, ([\d.]+) records/sec.* (\d+) ms 99th`)

func (c *clients) javaClient() load {
	return load{"Java",
		func(addr, topic string, n, size, rate int) ([]float64, error) {
			if rate == 0 {
				rate = -1
			}
			out, err := c.tool("org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records", strconv.Itoa(n), "--record-size", strconv.Itoa(size),
				"--throughput", strconv.Itoa(rate), "--producer-props", "bootstrap.servers="+addr, "acks=all")
			if err != nil {
				return nil, err
			}
			return found(perfResult, out)
		},
		func(addr, topic string, _, n int) ([]float64, error) {
			out, err := c.tool("org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", addr, "--topic", topic, "--messages", strconv.Itoa(n),
				"--timeout", "60000", "--group", fmt.Sprint("perf-", time.Now().UnixNano()))
			if err != nil {
				return nil, err
			}
			// The last column is without the time that joining the group took.
			lines := strings.Split(strings.TrimSpace(out), "\n")
			fields := strings.Split(lines[len(lines)-1], ", ")
			rate, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				return nil, fmt.Errorf("kafka-consumer-perf-test printed %s", out)
			}
			return []float64{rate}, nil
		}}
}

// tool runs one of Kafka's programs with the heap that its scripts give it.
func (c *clients) tool(class string, args ...string) (string, error) {
	d := compat.JavaTool(c.java, class)
	env := append(d.Env, "KAFKA_HEAP=512m", "KAFKA_JVM=-XX:+UseG1GC")
	return runClient(env, d.Argv[0], append(d.Argv[1:], args...)...)
}

func found(re *regexp.Regexp, text string) (got []float64, err error) {
	all := re.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return nil, fmt.Errorf("no %s in %s", re, text)
	}
	for _, word := range all[len(all)-1][1:] {
		x, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, err
		}
		got = append(got, x)
	}
	return got, nil
}

func runClient(env []string, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), clientLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out), nil
}
