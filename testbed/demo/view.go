package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/weirmq/weir/testbed/fleet"
	"github.com/weirmq/weir/testbed/site"
)

// sample is what devices and appliances say at one moment.
type sample struct {
	at               time.Time
	fleet            fleet.Counts
	edge, core       site.Status
	edgeErr, coreErr error
	mirrored         string // name of the mirrored topic
}

// transformLag is the number of records that plugins of the edge have before them.
func (s *sample) transformLag() (lag int64) {
	for _, p := range s.edge.Plugins {
		lag += max(0, p.Lag)
	}
	return lag
}

// atCore is the number of records in the mirrored topic.
func (s *sample) atCore() int64 {
	for _, t := range s.core.Topics {
		if t.Name == s.mirrored {
			return t.Records
		}
	}
	return 0
}

// trouble is the first error that a plugin, a flow or an appliance shows.
func (s *sample) trouble() string {
	for _, err := range []error{s.edgeErr, s.coreErr} {
		if err != nil {
			return err.Error()
		}
	}
	for _, p := range s.edge.Plugins {
		if p.Error != "" {
			return "plugin " + p.Name + ": " + p.Error
		}
	}
	for _, f := range s.edge.Flows {
		if f.Error != "" {
			return "flow " + f.Name + ": " + f.Error
		}
	}
	return ""
}

// view shows samples: a table that is drawn over itself on a terminal, a line
// for each sample elsewhere.
type view struct {
	out      io.Writer
	terminal bool
	started  time.Time
	before   sample
	drawn    int // lines of the table on the screen
}

func (v *view) show(s sample) {
	if v.terminal {
		v.table(s)
	} else {
		v.line(s)
	}
	v.before = s
}

func (v *view) line(s sample) {
	e := &s.edge.Totals
	fmt.Fprintf(v.out, "%s  in %s  acked %s  transformed %s (lag %s)  mirrored %s (lag %s)  at the core %s  disk %s + %s",
		v.clock(s), count(e.MessagesIn), count(e.MessagesAcked), count(e.Transformed), count(s.transformLag()),
		count(e.Mirrored), count(e.MirrorLag), count(s.atCore()), size(s.edge.Disk.LogBytes), size(s.core.Disk.LogBytes))
	if t := s.trouble(); t != "" {
		fmt.Fprintf(v.out, "  ! %s", t)
	}
	fmt.Fprintln(v.out)
}

func (v *view) table(s sample) {
	e, old := &s.edge.Totals, &v.before.edge.Totals
	rows := [][4]string{
		{v.clock(s), "total", "per second", "lag"},
		{"devices", count(s.fleet.Connected), "", ""},
		{"messages in", count(e.MessagesIn), v.rate(s, e.MessagesIn, old.MessagesIn), ""},
		{"acked", count(e.MessagesAcked), v.rate(s, e.MessagesAcked, old.MessagesAcked), count(e.MessagesIn - e.MessagesAcked)},
		{"transformed", count(e.Transformed), v.rate(s, e.Transformed, old.Transformed), count(s.transformLag())},
		{"mirrored", count(e.Mirrored), v.rate(s, e.Mirrored, old.Mirrored), count(e.MirrorLag)},
		{"at the core", count(s.atCore()), v.rate(s, s.atCore(), v.before.atCore()), ""},
		{"dead letters", count(e.DeadLetters), "", ""},
		{"disk", size(s.edge.Disk.LogBytes), "", ""},
		{"disk, core", size(s.core.Disk.LogBytes), "", ""},
	}
	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", v.drawn)
	}
	for _, r := range rows {
		fmt.Fprintf(&b, "\x1b[2K%-14s%14s%14s%10s\n", r[0], r[1], r[2], r[3])
	}
	fmt.Fprintf(&b, "\x1b[2K%.78s\n", s.trouble())
	v.drawn = len(rows) + 1
	_, _ = io.WriteString(v.out, b.String())
}

func (v *view) clock(s sample) string {
	d := s.at.Sub(v.started).Round(time.Second)
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// rate is the growth since the sample before, per second.
func (v *view) rate(s sample, now, before int64) string {
	passed := s.at.Sub(v.before.at).Seconds()
	if v.before.at.IsZero() || passed <= 0 {
		return ""
	}
	return count(int64(float64(max(0, now-before))/passed + 0.5))
}

// count writes a number with thousands separated.
func count(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func size(bytes int64) string {
	f, unit := float64(bytes)/1024, 0
	for ; f >= 1024 && unit < 3; unit++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGT"[unit])
}
