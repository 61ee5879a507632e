package plugins

import (
	"strconv"
	"time"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/plugins/transform"
)

// States of a plugin, beside those of its tasks.
const (
	StateStarting = "starting"
	StateFailed   = "failed"             // it cannot start
	StateWaiting  = "waiting for inputs" // none of its input topics exists
)

// Info is an installed plugin as it is now.
type Info struct {
	Name        string             `json:"name"`
	Version     string             `json:"version"`
	Description string             `json:"description,omitempty"`
	State       string             `json:"state"` // the worst of its tasks'
	Error       string             `json:"error,omitempty"`
	Inputs      []string           `json:"inputs"`
	Outputs     []string           `json:"outputs"`
	OnFailure   transform.Policy   `json:"on_failure"`
	Limits      Limits             `json:"limits"`
	SHA256      string             `json:"sha256"`
	ModuleBytes int                `json:"module_bytes"`
	Deployed    time.Time          `json:"deployed"`
	Counts      Counts             `json:"counts"`
	Tasks       []transform.Status `json:"tasks"`
}

// Counts are a plugin's figures since it was started, as committed.
type Counts struct {
	In          int64 `json:"records_in"`
	Out         int64 `json:"records_out"`
	Rejected    int64 `json:"records_rejected"`
	Poisoned    int64 `json:"records_poisoned"`
	DeadLetters int64 `json:"dead_letters"`
	Skipped     int64 `json:"records_skipped"`
	Lost        int64 `json:"records_lost"`
	Failures    int64 `json:"failures"`
	Commits     int64 `json:"commits"`
	Starts      int64 `json:"instance_starts"`
	Calls       int64 `json:"calls"`
	CallMicros  int64 `json:"call_us"`
}

// Status is the host as it is now.
type Status struct {
	Plugins          []Info `json:"plugins"`
	Instances        int    `json:"instances"`
	MemoryBytes      int64  `json:"memory_bytes"` // what instances may grow to
	MemoryLimitBytes int64  `json:"memory_limit_bytes"`
}

// Status is the host as it is now.
func (h *Host) Status() Status {
	bytes, instances := h.budget.inUse()
	return Status{Plugins: h.List(), Instances: instances, MemoryBytes: bytes, MemoryLimitBytes: h.o.TotalMemoryBytes}
}

// List is the installed plugins, by name.
func (h *Host) List() []Info {
	list := []Info{}
	for _, p := range h.all() {
		list = append(list, p.info())
	}
	return list
}

func (p *plugin) info() Info {
	i := Info{
		Name: p.manifest.Name, Version: p.manifest.Version, Description: p.manifest.Description,
		Inputs: p.manifest.Inputs, Outputs: p.manifest.Outputs, OnFailure: p.manifest.OnFailure, Limits: p.manifest.Limits,
		SHA256: p.entry.SHA256, ModuleBytes: p.size, Deployed: p.entry.Deployed, Counts: p.counts(), Tasks: []transform.Status{},
	}
	for _, t := range p.allTasks() {
		i.Tasks = append(i.Tasks, t.Status())
	}
	i.State, i.Error = p.state(i.Tasks)
	return i
}

// state is the worst there is to say.
func (p *plugin) state(tasks []transform.Status) (state, cause string) {
	p.mu.Lock()
	err := p.err
	p.mu.Unlock()
	switch {
	case err != nil:
		return StateFailed, err.Error()
	case p.program == nil:
		return StateStarting, ""
	case len(tasks) == 0:
		return StateWaiting, ""
	}
	worst := tasks[0]
	for _, t := range tasks {
		if severity(t.State) > severity(worst.State) {
			worst = t
		}
	}
	return string(worst.State), worst.Error
}

func severity(s transform.State) int {
	switch s {
	case transform.Stopped:
		return 2
	case transform.BackOff:
		return 1
	}
	return 0
}

func (p *plugin) counts() Counts {
	c, u := &p.counters, &p.usage
	return Counts{
		In: c.In.Load(), Out: c.Out.Load(), Rejected: c.Rejected.Load(), Poisoned: c.Poisoned.Load(),
		DeadLetters: c.DeadLetters.Load(), Skipped: c.Skipped.Load(), Lost: c.Lost.Load(), Failures: c.Failures.Load(),
		Commits: c.Commits.Load(), Starts: u.starts.Load(), Calls: u.calls.Load(), CallMicros: u.callNanos.Load() / 1000,
	}
}

// Metrics writes the host's figures.
func (h *Host) Metrics(w *metric.Writer) {
	s := h.Status()
	w.Gauge("weir_plugin_instances", "Running plugin instances.", float64(s.Instances))
	w.Gauge("weir_plugin_memory_bytes", "Memory that running plugin instances may grow to.", float64(s.MemoryBytes))
	for _, m := range []struct {
		name, help string
		value      func(*Info) float64
	}{
		{"weir_plugin_records_in_total", "Records that a plugin has read.", func(i *Info) float64 { return float64(i.Counts.In) }},
		{"weir_plugin_records_out_total", "Records that a plugin has written.", func(i *Info) float64 { return float64(i.Counts.Out) }},
		{"weir_plugin_records_rejected_total", "Records that a plugin has rejected.", func(i *Info) float64 { return float64(i.Counts.Rejected) }},
		{"weir_plugin_records_poisoned_total", "Records that a plugin has failed on.", func(i *Info) float64 { return float64(i.Counts.Poisoned) }},
		{"weir_plugin_dead_letters_total", "Records written to a plugin's dead-letter topic.", func(i *Info) float64 { return float64(i.Counts.DeadLetters) }},
		{"weir_plugin_records_lost_total", "Records removed before a plugin read them.", func(i *Info) float64 { return float64(i.Counts.Lost) }},
		{"weir_plugin_failures_total", "Failed calls of a plugin.", func(i *Info) float64 { return float64(i.Counts.Failures) }},
		{"weir_plugin_instance_starts_total", "Instances of a plugin started.", func(i *Info) float64 { return float64(i.Counts.Starts) }},
		{"weir_plugin_call_seconds_total", "Time spent in a plugin.", func(i *Info) float64 { return float64(i.Counts.CallMicros) / 1e6 }},
	} {
		for i := range s.Plugins {
			w.Counter(m.name, m.help, m.value(&s.Plugins[i]), "plugin", s.Plugins[i].Name)
		}
	}
	for i := range s.Plugins {
		for _, t := range s.Plugins[i].Tasks {
			w.Gauge("weir_plugin_lag_records", "Records that a plugin has not read yet.", float64(t.Lag),
				"plugin", s.Plugins[i].Name, "topic", t.Topic, "partition", strconv.Itoa(int(t.Partition)))
		}
	}
}
