package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

type topicCmd struct {
	List     topicListCmd     `cmd:"" help:"List topics."`
	Create   topicCreateCmd   `cmd:"" help:"Create topics."`
	Alter    topicAlterCmd    `cmd:"" help:"Change a topic's configs and add partitions."`
	Delete   topicDeleteCmd   `cmd:"" help:"Delete topics and their records."`
	Describe topicDescribeCmd `cmd:"" help:"Show a topic's partitions, offsets and configs."`
}

type topicListCmd struct {
	kafkaFlags
	Internal bool `help:"Include internal topics."`
}

type topicRow struct {
	Name       string `json:"name"`
	Partitions int    `json:"partitions"`
	Internal   bool   `json:"internal"`
	Records    int64  `json:"records"`
}

func (c *topicListCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	topics, err := adm.ListTopicsWithInternal(s.ctx)
	if err != nil {
		return brokerError("list topics", "*", err)
	}
	offsets, err := offsetsOf(s, adm, topics.Names())
	if err != nil {
		return err
	}
	rows := []topicRow{}
	for _, t := range topics.Sorted() {
		internal := t.IsInternal || strings.HasPrefix(t.Topic, "__")
		if internal && !c.Internal {
			continue
		}
		rows = append(rows, topicRow{t.Topic, len(t.Partitions), internal, offsets.records(t.Topic)})
	}
	return s.show(rows, func(w io.Writer) {
		var cells [][]any
		for _, r := range rows {
			cells = append(cells, []any{r.Name, r.Partitions, r.Records})
		}
		table(w, []string{"topic", "partitions", "records"}, cells)
	})
}

// offsetRange is the first and the next offset of each partition asked for.
type offsetRange struct {
	start, end kadm.ListedOffsets
}

func offsetsOf(s *session, adm *kadm.Client, topics []string) (offsetRange, error) {
	if len(topics) == 0 {
		return offsetRange{}, nil
	}
	start, err := adm.ListStartOffsets(s.ctx, topics...)
	if err != nil {
		return offsetRange{}, brokerError("list start offsets of", strings.Join(topics, ","), err)
	}
	end, err := adm.ListEndOffsets(s.ctx, topics...)
	if err != nil {
		return offsetRange{}, brokerError("list end offsets of", strings.Join(topics, ","), err)
	}
	return offsetRange{start, end}, nil
}

func (o offsetRange) records(topic string) (n int64) {
	for p, end := range o.end[topic] {
		n += end.Offset - o.start[topic][p].Offset
	}
	return n
}

type topicCreateCmd struct {
	kafkaFlags
	Topics     []string          `arg:"" help:"Names."`
	Partitions int32             `short:"p" default:"-1" help:"Partitions (the broker's num.partitions)."`
	Replicas   int16             `short:"r" default:"-1" help:"Replicas of each partition (the broker's default; Weir has one)."`
	Config     map[string]string `short:"c" mapsep:"none" placeholder:"KEY=VALUE" help:"Topic config, by Kafka's name; may be repeated."`
	IfMissing  bool              `name:"if-not-exists" help:"Leave topics alone that are there."`
	DryRun     bool              `help:"Have the broker check it, and make nothing."`
}

func (c *topicCreateCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	configs := map[string]*string{}
	for k, v := range c.Config {
		configs[k] = &v
	}
	create := adm.CreateTopics
	if c.DryRun {
		create = adm.ValidateCreateTopics
	}
	answers, err := create(s.ctx, c.Partitions, c.Replicas, configs, c.Topics...)
	if err != nil {
		return brokerError("create", strings.Join(c.Topics, ","), err)
	}
	created, there := []string{}, []string{}
	for _, r := range answers.Sorted() {
		switch {
		case c.IfMissing && errors.Is(r.Err, kerr.TopicAlreadyExists):
			there = append(there, r.Topic)
		case r.Err != nil:
			return refused("create", r.Topic, r.Err, r.ErrMessage)
		default:
			created = append(created, r.Topic)
		}
	}
	return s.show(map[string]any{"created": created, "existed": there, "dry_run": c.DryRun}, func(w io.Writer) {
		done := "created"
		if c.DryRun {
			done = "the broker would create"
		}
		if len(created) > 0 {
			fmt.Fprintln(w, done, strings.Join(created, " "))
		}
		if len(there) > 0 {
			fmt.Fprintln(w, "there already:", strings.Join(there, " "))
		}
	})
}

type topicDeleteCmd struct {
	kafkaFlags
	Topics []string `arg:"" help:"Names."`
}

func (c *topicDeleteCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	deleted, err := adm.DeleteTopics(s.ctx, c.Topics...)
	if err != nil {
		return brokerError("delete", strings.Join(c.Topics, ","), err)
	}
	for _, r := range deleted.Sorted() {
		if err := brokerError("delete", r.Topic, r.Err); err != nil {
			return err
		}
	}
	return s.show(map[string]any{"deleted": c.Topics}, func(w io.Writer) {
		fmt.Fprintln(w, "deleted", strings.Join(c.Topics, " "))
	})
}

type topicDescribeCmd struct {
	kafkaFlags
	Topic string `arg:"" help:"Name."`
}

type partitionRow struct {
	Partition int32 `json:"partition"`
	Leader    int32 `json:"leader"`
	Epoch     int32 `json:"leader_epoch"`
	Start     int64 `json:"log_start_offset"`
	End       int64 `json:"high_watermark"`
}

type topicDescription struct {
	Name       string            `json:"name"`
	Partitions []partitionRow    `json:"partitions"`
	Configs    map[string]string `json:"configs"`
}

func (c *topicDescribeCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	d, err := describeTopic(s, adm, c.Topic)
	if err != nil {
		return err
	}
	return s.show(d, func(w io.Writer) {
		fmt.Fprintf(w, "topic %s\n\n", d.Name)
		var cells [][]any
		for _, p := range d.Partitions {
			cells = append(cells, []any{p.Partition, p.Leader, p.Epoch, p.Start, p.End})
		}
		table(w, []string{"partition", "leader", "epoch", "log start", "high watermark"}, cells)
		cells = nil
		for _, k := range sortedKeys(d.Configs) {
			cells = append(cells, []any{k, d.Configs[k]})
		}
		fmt.Fprintln(w)
		table(w, []string{"config", "value"}, cells)
	})
}

func describeTopic(s *session, adm *kadm.Client, name string) (topicDescription, error) {
	d := topicDescription{Name: name, Configs: map[string]string{}}
	found, err := adm.ListTopicsWithInternal(s.ctx, name)
	if err != nil {
		return d, brokerError("describe", name, err)
	}
	t := found[name]
	if t.Err != nil {
		return d, brokerError("describe", name, t.Err)
	}
	offsets, err := offsetsOf(s, adm, []string{name})
	if err != nil {
		return d, err
	}
	for _, p := range t.Partitions.Sorted() {
		d.Partitions = append(d.Partitions, partitionRow{
			p.Partition, p.Leader, p.LeaderEpoch,
			offsets.start[name][p.Partition].Offset, offsets.end[name][p.Partition].Offset,
		})
	}
	configs, err := adm.DescribeTopicConfigs(s.ctx, name)
	if err != nil {
		return d, brokerError("describe configs of", name, err)
	}
	for _, rc := range configs {
		for _, kv := range rc.Configs {
			d.Configs[kv.Key] = kv.MaybeValue()
		}
	}
	return d, nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
