package plugins_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/plugins"
	"github.com/weirmq/weir/plugins/transform"
)

const batchRecords = 500

// reading is telemetry of about 200 bytes.
var reading = `{"device":"pump-017","seq":123456,"ts":1763800000000,"temp_f":71.3,"pressure_inhg":29.92,"wind_mph":5.1,"site":"` + strings.Repeat("x", 80) + `"}`

func input(value string) *transform.Input {
	in := &transform.Input{TopicPartition: partition("in", 0)}
	for i := range batchRecords {
		in.Records = append(in.Records, record.Record{Offset: int64(i), Timestamp: 1_700_000_000_000, Key: fmt.Appendf(nil, "pump-%03d", i), Value: []byte(value), HeaderBlock: []byte{0}})
	}
	return in
}

func oneOutput() *transform.Output {
	return transform.NewOutput(&transform.Options{Outputs: []transform.Sink{{Topic: "out", Partitions: 1}}})
}

func transformer(t testing.TB, wasm []byte, interpret bool) transform.Transformer {
	t.Helper()
	tr, closeAll, err := plugins.NewTransformer(wasm, plugins.Limits{CallMs: 10_000}, interpret)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeAll)
	return tr
}

func benchmark(b *testing.B, wasm []byte, interpret bool) {
	tr, in, out := transformer(b, wasm, interpret), input(reading), oneOutput()
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		if err := tr.Transform(context.Background(), in, out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batchRecords, "ns/record")
}

func BenchmarkIdentity(b *testing.B)            { benchmark(b, unpacked(b, "identity"), false) }
func BenchmarkIdentityInterpreted(b *testing.B) { benchmark(b, unpacked(b, "identity"), true) }
func BenchmarkTelemetry(b *testing.B)           { benchmark(b, telemetryModule(b), false) }

// BenchmarkBuild is what writing the records costs without a plugin.
func BenchmarkBuild(b *testing.B) {
	in, out := input(reading), oneOutput()
	for b.Loop() {
		out.Reset()
		for i := range in.Records {
			out.Add(0, &in.Records[i])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batchRecords, "ns/record")
}

// A call's allocations must not grow with its records.
func TestCallAllocates(t *testing.T) {
	tr, in, out := transformer(t, unpacked(t, "identity"), false), input(reading), oneOutput()
	if n := testing.AllocsPerRun(50, func() {
		out.Reset()
		if err := tr.Transform(context.Background(), in, out); err != nil {
			t.Fatal(err)
		}
	}); n > 5 {
		t.Errorf("%v allocations in a call of %d records", n, batchRecords)
	}
}
