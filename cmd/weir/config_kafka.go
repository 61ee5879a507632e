package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// configOf is whose configs are meant: one topic, one broker, or all brokers.
type configOf struct {
	kafkaFlags
	Topic   string `short:"t" xor:"of" help:"Of this topic."`
	Broker  *int32 `xor:"of" placeholder:"ID" help:"Of this broker (without --topic: of the controller)."`
	Default bool   `xor:"of" help:"What is set for all brokers that do not say."`
}

// resource finds out the broker where none is named.
func (c *configOf) resource(s *session, adm *kadm.Client) (name string, broker int32, err error) {
	if c.Topic != "" {
		return "topic '" + c.Topic + "'", -1, nil
	}
	if c.Default {
		return "all brokers", -1, nil
	}
	if c.Broker != nil {
		return fmt.Sprint("broker ", *c.Broker), *c.Broker, nil
	}
	meta, err := adm.BrokerMetadata(s.ctx)
	if err != nil {
		return "", -1, brokerError("describe", "the cluster", err)
	}
	return fmt.Sprint("broker ", meta.Controller), meta.Controller, nil
}

// brokers is none where all are meant.
func (c *configOf) brokers(id int32) []int32 {
	if c.Default {
		return nil
	}
	return []int32{id}
}

type configDescribeCmd struct {
	configOf
	All bool     `short:"a" help:"Defaults too, not only what was set."`
	Key []string `arg:"" optional:"" help:"Only these keys."`
}

type configRow struct {
	Key       string  `json:"key"`
	Value     *string `json:"value"` // null: secret
	Source    string  `json:"source"`
	Sensitive bool    `json:"sensitive,omitempty"`
}

func (c *configDescribeCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	name, broker, err := c.resource(s, adm)
	if err != nil {
		return err
	}
	var described kadm.ResourceConfigs
	if c.Topic != "" {
		described, err = adm.DescribeTopicConfigs(s.ctx, c.Topic)
	} else {
		described, err = adm.DescribeBrokerConfigs(s.ctx, c.brokers(broker)...)
	}
	if err == nil && len(described) > 0 {
		err = described[0].Err
	}
	if err != nil {
		return c.failed("describe", name, err, "")
	}
	rows, err := c.rows(name, described)
	if err != nil {
		return err
	}
	return s.show(map[string]any{"of": name, "configs": rows}, func(w io.Writer) {
		var cells [][]any
		for _, r := range rows {
			value := "(secret)"
			if r.Value != nil {
				value = *r.Value
			}
			cells = append(cells, []any{r.Key, value, r.Source})
		}
		table(w, []string{"config", "value", "source"}, cells)
	})
}

func (c *configDescribeCmd) rows(name string, described kadm.ResourceConfigs) ([]configRow, error) {
	rows, known := []configRow{}, map[string]bool{}
	for _, rc := range described {
		for _, kv := range rc.Configs {
			known[kv.Key] = true
			// What the broker's file says is no more of the topic's than a default.
			isDefault := kv.Source == kmsg.ConfigSourceDefaultConfig || c.Topic != "" && kv.Source == kmsg.ConfigSourceStaticBrokerConfig
			if len(c.Key) > 0 && !slices.Contains(c.Key, kv.Key) || len(c.Key) == 0 && isDefault && !c.All {
				continue
			}
			rows = append(rows, configRow{kv.Key, kv.Value, kv.Source.String(), kv.Sensitive})
		}
	}
	for _, key := range c.Key {
		if !known[key] {
			return nil, failf(exitNotFound, "%s has no config '%s': weir config describe --all lists them", name, key)
		}
	}
	slices.SortFunc(rows, func(a, b configRow) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return rows, nil
}

// failed names the topic in the way that all commands do.
func (c *configOf) failed(doing, name string, err error, message string) error {
	if c.Topic != "" {
		name = c.Topic
	}
	return refused(doing, name, err, message)
}

type configAlterCmd struct {
	configOf
	Config       map[string]string `short:"c" mapsep:"none" placeholder:"KEY=VALUE" help:"Set a config, by Kafka's name; may be repeated."`
	DeleteConfig []string          `placeholder:"KEY" help:"Return a config to its default; may be repeated."`
	DryRun       bool              `help:"Have the broker check it, and change nothing."`
}

func (c *configAlterCmd) Run(s *session) error {
	changes, err := configChanges(c.Config, c.DeleteConfig)
	if err != nil {
		return err
	}
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	name, broker, err := c.resource(s, adm)
	if err != nil {
		return err
	}
	altered, err := c.alter(s, adm, broker, changes)
	if err != nil {
		return c.failed("alter the configs of", name, err, "")
	}
	for _, r := range altered {
		if r.Err != nil {
			return c.failed("alter the configs of", name, r.Err, r.ErrMessage)
		}
	}
	result := map[string]any{"of": name, "set": c.Config, "deleted": c.DeleteConfig, "dry_run": c.DryRun}
	return s.show(result, func(w io.Writer) {
		if c.DryRun {
			fmt.Fprintln(w, "the broker would take this for", name)
			return
		}
		fmt.Fprintln(w, "altered", name)
	})
}

func (c *configAlterCmd) alter(s *session, adm *kadm.Client, broker int32, changes []kadm.AlterConfig) (kadm.AlterConfigsResponses, error) {
	switch {
	case c.Topic != "" && c.DryRun:
		return adm.ValidateAlterTopicConfigs(s.ctx, changes, c.Topic)
	case c.Topic != "":
		return adm.AlterTopicConfigs(s.ctx, changes, c.Topic)
	case c.DryRun:
		return adm.ValidateAlterBrokerConfigs(s.ctx, changes, c.brokers(broker)...)
	}
	return adm.AlterBrokerConfigs(s.ctx, changes, c.brokers(broker)...)
}

// configChanges are what --config and --delete-config ask for.
func configChanges(set map[string]string, deleted []string) ([]kadm.AlterConfig, error) {
	var changes []kadm.AlterConfig
	for _, key := range sortedKeys(set) {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: kadm.StringPtr(set[key])})
	}
	keys := slices.Clone(deleted)
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if _, both := set[key]; both {
			return nil, failf(exitUsage, "%s is both set and deleted", strconv.Quote(key))
		}
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: key})
	}
	if len(changes) == 0 {
		return nil, failf(exitUsage, "nothing to change: give --config or --delete-config")
	}
	return changes, nil
}
