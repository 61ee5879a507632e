package compat_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/site"
)

// The commands that speak Kafka work against Apache Kafka as they do against Weir.
func TestCommandLineAgainstKafka(t *testing.T) {
	t.Parallel()
	k := compat.StartKafka(t)
	binary, err := site.Binary()
	if err != nil {
		t.Fatal(err)
	}
	weir := func(stdin string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary, append(args, "--kafka", k.Addr)...)
		cmd.Stdin = strings.NewReader(stdin)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("weir %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
		}
		return string(out)
	}
	expect := func(want string, args ...string) {
		t.Helper()
		if got := weir("", args...); !strings.Contains(got, want) {
			t.Errorf("weir %s: no %q in %q", strings.Join(args, " "), want, got)
		}
	}
	weir("", "topic", "create", "t", "-p", "2", "-c", "retention.ms=86400000")
	expect("there already: t", "topic", "create", "t", "--if-not-exists")
	expect("t ", "topic", "list")
	weir("a:0\na:1\na:2\na:3\n", "produce", "t", "-K", ":", "-z", "lz4", "-H", "x=y")
	expect("a 2 x=y\na 3 x=y\n", "consume", "t", "--from", "-2", "--to", "end", "-f", `%k %v %h\n`)
	expect("0\n1\n", "consume", "t", "-g", "g", "-n", "2")
	expect("lag 2", "group", "describe", "g")
	weir("", "group", "seek", "g", "--to", "start")
	expect("lag 4", "group", "describe", "g")
	weir("", "group", "delete", "g")
	weir("", "topic", "alter", "t", "-p", "3", "-c", "segment.bytes=2000000")
	expect("segment.bytes", "config", "describe", "--topic", "t")
	weir("", "config", "alter", "--broker", "1", "-c", "log.cleaner.threads=2")
	expect("DYNAMIC_BROKER_CONFIG", "config", "describe", "log.cleaner.threads")
	expect("HIGH WATERMARK", "topic", "describe", "t")
	weir("", "topic", "delete", "t")
}
