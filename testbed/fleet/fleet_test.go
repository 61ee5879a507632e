package fleet_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/fleet"
)

type telemetry struct {
	Device       string  `json:"device"`
	Seq          int64   `json:"seq"`
	TS           int64   `json:"ts"`
	TempF        float64 `json:"temp_f"`
	PressureInHg float64 `json:"pressure_inhg"`
	WindMph      float64 `json:"wind_mph"`
}

func decode(t *testing.T, payload []byte) telemetry {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(payload)))
	d.DisallowUnknownFields()
	var m telemetry
	if err := d.Decode(&m); err != nil {
		t.Fatalf("payload %s: %v", payload, err)
	}
	return m
}

// runUntil runs a fleet until n readings were acked.
func runUntil(t *testing.T, o fleet.Options, n int) fleet.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	acked, observe := 0, o.OnAcked
	o.OnAcked = func(e fleet.Event) {
		mu.Lock()
		defer mu.Unlock()
		if observe != nil {
			observe(e)
		}
		if acked++; acked == n {
			cancel()
		}
	}
	r, err := fleet.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPublishesPlausibleNumberedReadings(t *testing.T) {
	p := newPeer(t, func(int) verdict { return ack })
	r := runUntil(t, fleet.Options{Broker: p.addr(), Devices: 5, Seed: 1}, 500)
	if r.Acked != r.Sent || r.Acked < 500 || r.StrayAcks != 0 {
		t.Errorf("report %+v: want all sent acked", r.Counts)
	}
	if r.AckedTotal.Len() != r.Acked {
		t.Errorf("ledger has %d readings, %d were acked", r.AckedTotal.Len(), r.Acked)
	}
	for d := range 5 {
		name := fmt.Sprintf("dev-%03d", d)
		for i, m := range p.published(name) {
			got := decode(t, m.Payload)
			if got.Device != name || got.Seq != int64(i+1) || m.TopicName != "sensors/"+name+"/telemetry" || m.Qos != 1 {
				t.Fatalf("message %d of %s is %s on %s at QoS %d", i+1, name, m.Payload, m.TopicName, m.Qos)
			}
			if got.TempF < -80 || got.TempF > 150 || got.PressureInHg < 27 || got.PressureInHg > 33 || got.WindMph < 0 || got.WindMph > 120 {
				t.Fatalf("implausible reading %s", m.Payload)
			}
		}
	}
}

// The peer cuts connections, loses readings and holds acks back; no reading may
// be reported acked that it does not have, and none may be lost or overtaken.
func TestResendsUnackedInOrder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	p := newPeer(t, func(int) verdict {
		switch n := rng.IntN(1000); {
		case n < 5:
			return drop
		case n < 10:
			return miss
		case n < 12:
			return hold // blocks the window until the next cut
		}
		return ack
	})
	type key struct {
		name string
		seq  int64
	}
	acked := map[key]bool{}
	o := fleet.Options{
		Broker: p.addr(), Devices: 4, Seed: seed, Window: 16,
		MaxBackoff: time.Millisecond, WriteTimeout: 200 * time.Millisecond,
		OnAcked: func(e fleet.Event) { acked[key{e.Name, e.Seq}] = true },
	}
	r := runUntil(t, o, 4000)
	if r.Reconnects == 0 || r.Resent == 0 {
		t.Fatalf("report %+v: nothing was cut, the test shows nothing", r.Counts)
	}
	for d := range 4 {
		name := fmt.Sprintf("dev-%03d", d)
		seen, dup := map[int64]bool{}, 0
		highest := int64(0)
		for _, m := range p.published(name) {
			switch seq := decode(t, m.Payload).Seq; {
			case seen[seq]:
				dup++
				if !m.Dup {
					t.Errorf("%s: reading %d sent again without DUP", name, seq)
				}
			case seq != highest+1:
				t.Fatalf("%s: reading %d came first after %d", name, seq, highest)
			default:
				highest, seen[seq] = seq, true
			}
		}
		for k := range acked {
			if k.name == name && !seen[k.seq] {
				t.Errorf("%s: reading %d reported acked, the broker does not have it", name, k.seq)
			}
		}
		t.Logf("%s: %d readings, %d duplicates", name, highest, dup)
	}
}

func TestBadDevicesSendInvalidReadings(t *testing.T) {
	p := newPeer(t, func(int) verdict { return ack })
	r := runUntil(t, fleet.Options{Broker: p.addr(), Devices: 10, BadPercent: 15, Seed: 3, Rate: 200}, 600)
	if r.AckedBad == 0 || r.AckedTotal.Len() != r.Acked-r.AckedBad {
		t.Errorf("%d bad of %d, ledger counts %d valid", r.AckedBad, r.Acked, r.AckedTotal.Len())
	}
	var invalid []string
	for d := range 10 {
		name := fmt.Sprintf("dev-%03d", d)
		msgs, ok := p.published(name), 0
		for _, m := range msgs {
			var v telemetry
			if json.Unmarshal(m.Payload, &v) == nil && v.TempF < 1000 {
				ok++
			}
		}
		switch ok {
		case 0:
			invalid = append(invalid, name)
		case len(msgs):
		default:
			t.Errorf("%s: %d of %d readings are valid, want all or none", name, ok, len(msgs))
		}
	}
	if want := []string{"dev-000", "dev-001"}; !slices.Equal(invalid, want) {
		t.Errorf("invalid devices %v, want %v", invalid, want)
	}
}

func TestReplayFollowsTheRecording(t *testing.T) {
	rec, err := fleet.LoadRecording("data/seattle-weather-hourly-normals.csv")
	if err != nil {
		t.Fatal(err)
	}
	if rec.Len() != 8759 {
		t.Fatalf("%d readings, want 8759", rec.Len())
	}
	p := newPeer(t, func(int) verdict { return ack })
	// At this scale the year passes several times.
	runUntil(t, fleet.Options{Broker: p.addr(), Devices: 2, Seed: 4, Replay: rec, TimeScale: 86400 * 30, Rate: 500}, 600)
	temps := map[float64]bool{}
	for _, m := range p.published("dev-000") {
		got := decode(t, m.Payload)
		// The extremes of the recording: 3.1 to 24.4 °C, 1015.4 to 1019.5 hPa, 2.3 to 4.7 m/s.
		if got.TempF < 37 || got.TempF > 77 || got.PressureInHg < 29.9 || got.PressureInHg > 30.2 || got.WindMph < 5 || got.WindMph > 11 {
			t.Fatalf("reading %s is outside the recording", m.Payload)
		}
		temps[got.TempF] = true
	}
	if len(temps) < 50 {
		t.Errorf("only %d different temperatures: time stands still", len(temps))
	}
}

func TestRecordingErrorsNameTheCause(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "header",
		"date,pressure,wind\n":             `no column "temperature"`,
		"date,pressure,temperature,wind\n": "fewer than two rows",
		"date,pressure,temperature,wind\nx,1,2,3\n":                                              `line 2: date "x"`,
		"date,pressure,temperature,wind\n2010-01-01T01:00:00,1,?,3\n":                            `line 2: "?" is not a number`,
		"date,pressure,temperature,wind\n2010-01-01T01:00:00,1,2,3\n2010-01-01T01:00:00,1,2,3\n": "same date",
	} {
		if _, err := fleet.ReadRecording(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
}

func TestUnreachableBrokerIsAnError(t *testing.T) {
	p := newPeer(t, nil)
	addr := p.addr()
	p.close()
	_, err := fleet.Run(t.Context(), fleet.Options{Broker: addr, Duration: 50 * time.Millisecond, MaxBackoff: time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("error %v, want one that names %s", err, addr)
	}
}

func TestOptionsAreValidated(t *testing.T) {
	for want, o := range map[string]fleet.Options{
		"no broker":      {},
		"99999 devices":  {Broker: "x", Devices: 99999},
		"rate -1":        {Broker: "x", Rate: -1},
		"101 % bad":      {Broker: "x", BadPercent: 101},
		"window of 5000": {Broker: "x", Window: 5000},
		"time scale -1":  {Broker: "x", TimeScale: -1},
	} {
		if _, err := fleet.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestLedger(t *testing.T) {
	a, b := fleet.NewLedger(2), fleet.NewLedger(2)
	for seq := int64(1); seq <= 200; seq++ {
		if !a.Add(1, seq) {
			t.Fatalf("%d is not new", seq)
		}
		if seq%2 == 0 {
			b.Add(1, seq)
		}
	}
	if a.Add(1, 7) || a.Add(2, 1) || a.Add(0, 0) || a.Add(0, 1<<60) {
		t.Error("a reading that was there, or cannot be, was new")
	}
	if n, some := a.Missing(b, 3); n != 100 || len(some) != 3 || some[1].Seq != 3 || a.Len() != 200 || !b.Has(1, 200) || b.Has(1, 201) {
		t.Errorf("missing %d %v, len %d", n, some, a.Len())
	}
}
