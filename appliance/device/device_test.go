package device_test

import (
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/device"
)

func TestFind(t *testing.T) {
	if _, err := device.Find("/proc"); !errors.Is(err, device.ErrNone) {
		t.Errorf("/proc: %v, want ErrNone", err)
	}
	if _, err := device.Find(t.TempDir() + "/missing"); err == nil || errors.Is(err, device.ErrNone) {
		t.Errorf("a folder that is not there: %v", err)
	}
	d, err := device.Find(t.TempDir())
	if errors.Is(err, device.ErrNone) {
		t.Skip("the temporary folder is on no block device")
	}
	if err != nil {
		t.Fatal(err)
	}
	first, err := d.Written()
	if err != nil || d.Name == "" {
		t.Fatalf("%q: %v", d.Name, err)
	}
	if again, err := d.Written(); err != nil || again < first {
		t.Errorf("written %d, then %d, %v", first, again, err)
	}
}

func TestParseWritten(t *testing.T) {
	const line = " 2519061   492261 94971673  2177295  6040044   511665 331637904  1535283        0   868052  4099845\n"
	if n, err := device.ParseWritten(line); err != nil || n != 331637904*512 {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range []string{"", "1 2 3", "a b c d e f g h", "0 0 0 0 0 0 -1 0", "0 0 0 0 0 0 9223372036854775807 0"} {
		if n, err := device.ParseWritten(bad); err == nil {
			t.Errorf("%q is %d", bad, n)
		}
	}
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written atomic.Int64
		written.Store(1 << 40) // long before the log was opened
		var payload atomic.Uint64
		var broken atomic.Bool
		count := func() (int64, error) {
			if broken.Load() {
				return 0, errors.New("gone")
			}
			return written.Load(), nil
		}
		m, err := device.Measure(device.Options{
			Device: &device.Device{Name: "card"}, Payload: payload.Load, Written: count,
			Endurance: 86_400_000_000, Lifetime: 365 * 24 * time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if st := m.Status(); st.WrittenBytes != 0 || st.Amplification != 0 || st.Warning != "" || st.WornOutDays != 0 {
			t.Errorf("at the start: %+v", st)
		}
		// 864 MB a day, ten for each byte of payload; then three.
		for i := range 6 * 60 {
			time.Sleep(10 * time.Second)
			written.Add(100_000)
			if payload.Add(10_000); i >= 5*60 {
				payload.Add(23_333)
			}
		}
		st := m.Status()
		near := func(what string, got, want float64) {
			t.Helper()
			if math.Abs(got-want) > want/20 {
				t.Errorf("%s is %g, want %g", what, got, want)
			}
		}
		near("written", float64(st.WrittenBytes), 36e6)
		near("payload", float64(st.PayloadBytes), 3e6+2e6)
		near("recent amplification", st.RecentAmplification, 3)
		near("amplification", st.Amplification, 36./5)
		near("bytes a day", st.BytesPerDay, 864e6)
		near("days", st.WornOutDays, 100)
		if !strings.Contains(st.Warning, "card is worn out after 100 days, it is to last 365") {
			t.Errorf("warning %q", st.Warning)
		}
		broken.Store(true)
		if again := m.Status(); again.WrittenBytes < st.WrittenBytes*9/10 {
			t.Errorf("a counter that fails: %+v", again)
		}
	})
}

func FuzzParseWritten(f *testing.F) {
	f.Add("1 2 3 4 5 6 7 8")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := device.ParseWritten(s); err == nil && n < 0 {
			t.Errorf("%q is %d", s, n)
		}
	})
}
