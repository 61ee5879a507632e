// Package metric writes the Prometheus text format. Weir's parts keep their own
// counters as plain atomics and write them here when asked; there is no registry.
package metric

import (
	"bytes"
	"strconv"
	"strings"
)

// Source is a part that has figures to show.
type Source interface {
	Metrics(w *Writer)
}

// Writer collects one scrape. Samples of one name must be written together.
type Writer struct {
	buf  bytes.Buffer
	last string
}

// Counter writes a figure that only grows. Labels are name, value, name, value …
func (w *Writer) Counter(name, help string, v float64, labels ...string) {
	w.sample("counter", name, help, v, labels)
}

// Gauge writes a figure that goes up and down.
func (w *Writer) Gauge(name, help string, v float64, labels ...string) {
	w.sample("gauge", name, help, v, labels)
}

// Bytes is the scrape so far.
func (w *Writer) Bytes() []byte { return w.buf.Bytes() }

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (w *Writer) sample(kind, name, help string, v float64, labels []string) {
	if name != w.last {
		w.buf.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
		w.last = name
	}
	w.buf.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		w.buf.WriteByte("{,"[min(i, 1)])
		w.buf.WriteString(labels[i] + `="` + escape.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 1 {
		w.buf.WriteByte('}')
	}
	w.buf.WriteByte(' ')
	w.buf.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
	w.buf.WriteByte('\n')
}
