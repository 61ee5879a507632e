package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/weirmq/weir/appliance/console"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

type doctorCmd struct {
	httpFlags
	Data   string `default:"data" placeholder:"DIR" help:"Data folder (${default})."`
	Config string `type:"path" placeholder:"FILE" help:"Configuration to check."`
}

// finding is one check's outcome: ok, warning or failed.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"`
	Detail string `json:"detail"`
}

// A disk below this is a finding; the appliance's own reserve is configured.
const lowDiskBytes = 256 << 20

func (c *doctorCmd) Run(s *session) error {
	findings := []finding{c.configuration(), c.disk(), c.syncSpeed(), boardClock(), c.appliance(s)}
	failed := 0
	for _, f := range findings {
		if f.State == "failed" {
			failed++
		}
	}
	err := s.show(findings, func(w io.Writer) {
		var cells [][]any
		for _, f := range findings {
			cells = append(cells, []any{f.State, f.Check, f.Detail})
		}
		table(w, []string{"state", "check", "detail"}, cells)
	})
	if err == nil && failed > 0 {
		err = failf(exitUnhealthy, "%d of %d checks failed", failed, len(findings))
	}
	return err
}

func (c *doctorCmd) configuration() finding {
	f := finding{Check: "configuration", State: "ok"}
	cfg, err := firmwareconfig.Load(c.Config)
	if err != nil {
		f.State, f.Detail = "failed", err.Error()
		return f
	}
	f.Detail = "valid, board profile " + cfg.Profile
	if w := cfg.Warnings(); len(w) > 0 {
		f.State, f.Detail = "warning", w[0]
	}
	return f
}

func (c *doctorCmd) disk() finding {
	f := finding{Check: "disk", State: "ok"}
	d, err := diskOf(existing(c.Data))
	if err != nil {
		f.State, f.Detail = "failed", err.Error()
		return f
	}
	f.Detail = fmt.Sprintf("%s free of %s at %s", bytesText(d.FreeBytes), bytesText(d.TotalBytes), c.Data)
	if d.FreeBytes < lowDiskBytes {
		f.State = "warning"
	}
	return f
}

// syncSpeed times what every acknowledgement waits for. It writes one temporary
// file beside the data.
func (c *doctorCmd) syncSpeed() finding {
	f := finding{Check: "fsync", State: "ok"}
	file, err := os.CreateTemp(existing(c.Data), ".weir-doctor-*")
	if err != nil {
		f.State, f.Detail = "failed", "cannot write beside the data: "+err.Error()
		return f
	}
	defer os.Remove(file.Name())
	defer file.Close()
	const rounds = 10
	block := make([]byte, 4096)
	start := time.Now()
	for range rounds {
		if _, err = file.Write(block); err == nil {
			err = file.Sync()
		}
		if err != nil {
			f.State, f.Detail = "failed", "fsync fails: "+err.Error()
			return f
		}
	}
	each := time.Since(start) / rounds
	f.Detail = fmt.Sprintf("%s each: acknowledgements wait for one", each.Round(10*time.Microsecond))
	if each > 50*time.Millisecond {
		f.State = "warning"
		f.Detail += "; storage.commit.profile: flash gathers more of them into one"
	}
	return f
}

// existing is dir or the nearest parent that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == "." || dir == "/" {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// boardClock finds the boards without a battery: they boot in the past.
func boardClock() finding {
	f := finding{Check: "clock", State: "ok", Detail: time.Now().UTC().Format(time.RFC3339)}
	if time.Now().Year() < 2025 {
		f.State, f.Detail = "warning", f.Detail+" is before this program was written: is NTP reachable?"
	}
	return f
}

func (c *doctorCmd) appliance(s *session) finding {
	f := finding{Check: "appliance", State: "ok"}
	var st console.Status
	if err := c.call(s.ctx, "GET", "/v1/status", nil, &st); err != nil {
		f.State, f.Detail = "warning", err.Error()
		if exitCode(err) != exitUnreachable {
			f.State = "failed"
		}
		return f
	}
	f.Detail = fmt.Sprintf("site %s, weir %s (this one: %s, %s/%s)", st.Site, st.Version, versionText(), runtime.GOOS, runtime.GOARCH)
	if !st.Ready {
		f.State, f.Detail = "failed", "not ready: "+st.WaitingFor
	}
	for _, w := range st.Warnings {
		if w.Severity == console.SeverityFailed {
			f.State = "failed"
		} else if f.State == "ok" {
			f.State = "warning"
		}
		f.Detail += "; " + w.Text
	}
	return f
}
