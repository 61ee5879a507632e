package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/plugins"
)

// startPlugins starts the plugins that are installed, and takes new ones.
func (b *box) startPlugins() error {
	dir, err := filepath.Abs(b.cfg.Data.Dir)
	if err != nil {
		return err
	}
	log := pluginLog{deviceLog{b.broker.Topics()}}
	o := pluginOptions(&b.cfg, b.log)
	o.FS, o.CacheDir = vfs.OS(dir), filepath.Join(dir, "plugins", "cache")
	o.Registry, o.Topics, o.Log, o.Positions = b.broker.Metadata().Bucket("plugins"), log, log, pluginPositions{b.broker.Groups()}
	host, err := plugins.NewHost(o)
	if err != nil {
		return err
	}
	b.setPlugins(pluginAdmin{host})
	b.add(part{name: "plugins", status: func() any { return host.Status() }, source: host, close: host.Close,
		fill: func(s *console.Snapshot) {
			for _, p := range host.List() {
				fillPlugin(s, &p)
			}
		}})
	return nil
}

func fillPlugin(s *console.Snapshot, p *plugins.Info) {
	row := console.Plugin{
		Name: p.Name, Version: p.Version, State: p.State, RecordsIn: p.Counts.In, RecordsOut: p.Counts.Out,
		DeadLetters: p.Counts.DeadLetters, Error: p.Error,
	}
	for _, t := range p.Tasks {
		row.Lag += t.Lag
	}
	s.Plugins = append(s.Plugins, row)
	s.Totals.Transformed += row.RecordsOut
	s.Totals.DeadLetters += row.DeadLetters
	if p.Error != "" {
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityFailed, Text: "plugin " + p.Name + ": " + p.Error})
	}
}

// pluginLog is the log as the plugin host wants it.
type pluginLog struct{ deviceLog }

// Partitions implements plugins.Topics.
func (l pluginLog) Partitions(name string) int32 {
	t := l.Topic(name)
	if t == nil {
		return 0
	}
	return int32(len(t.Partitions()))
}

// Ensure implements plugins.Topics.
func (l pluginLog) Ensure(name string, partitions int32, internal bool) (int32, error) {
	t, err := l.Set.Ensure(name, topic.Spec{Partitions: partitions, Internal: internal})
	if err != nil {
		return 0, err
	}
	return int32(len(t.Partitions())), nil
}

// pluginPositions keeps positions where consumer groups keep theirs, so that
// every Kafka tool shows a plugin's lag.
type pluginPositions struct{ groups *group.Coordinator }

// Committed implements plugins.Positions.
func (p pluginPositions) Committed(name string, tp record.TopicPartition) (int64, bool, error) {
	o, ok, err := p.groups.Committed(name, tp)
	return o.Offset, ok, err
}

// Encode implements plugins.Positions.
func (p pluginPositions) Encode(name string, tp record.TopicPartition, offset int64) (record.Write, error) {
	b, err := record.NewBatch(record.None, group.EncodeOffsetCommit(name, tp, offset, "", time.Now().UnixMilli()))
	return record.Write{TopicPartition: group.TopicPartition, Batch: b}, err
}

// pluginAdmin is the host as the console's admin API wants it.
type pluginAdmin struct{ *plugins.Host }

// Deploy implements console.Plugins.
func (a pluginAdmin) Deploy(ctx context.Context, wasm []byte) (any, error) {
	return a.Host.Deploy(ctx, wasm, plugins.Overrides{})
}

// Remove implements console.Plugins.
func (a pluginAdmin) Remove(_ context.Context, name string) error {
	return notFound(a.Host.Remove(name))
}

// List implements console.Plugins.
func (a pluginAdmin) List() any { return a.Host.List() }

// Logs implements console.Plugins.
func (a pluginAdmin) Logs(name string, n int) ([]string, error) {
	lines, err := a.Host.Logs(name, n)
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = fmt.Sprintf("%s %s %s", l.Time.Format(time.RFC3339Nano), l.Level, l.Text)
	}
	return out, notFound(err)
}

func notFound(err error) error {
	if errors.Is(err, plugins.ErrUnknownPlugin) {
		return fmt.Errorf("%w: %w", console.ErrNotFound, err)
	}
	return err
}
