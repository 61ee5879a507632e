package main

import (
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kadm"
)

type topicAlterCmd struct {
	kafkaFlags
	Topic        string            `arg:"" help:"Name."`
	Config       map[string]string `short:"c" mapsep:"none" placeholder:"KEY=VALUE" help:"Set a topic config, by Kafka's name; may be repeated."`
	DeleteConfig []string          `placeholder:"KEY" help:"Return a topic config to its default; may be repeated."`
	Partitions   int32             `short:"p" placeholder:"N" help:"Add partitions until there are this many; their number cannot shrink."`
}

// topicAlteration is what was done.
type topicAlteration struct {
	Name       string            `json:"name"`
	Set        map[string]string `json:"set,omitempty"`
	Deleted    []string          `json:"deleted,omitempty"`
	Partitions int32             `json:"partitions,omitempty"`
}

// Run changes the configs first: they are checked as a whole and can be put back,
// partitions cannot.
func (c *topicAlterCmd) Run(s *session) error {
	if err := c.check(); err != nil {
		return err
	}
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	if err := c.alterConfigs(s, adm); err != nil {
		return err
	}
	if err := c.addPartitions(s, adm); err != nil {
		return err
	}
	done := topicAlteration{c.Topic, c.Config, c.DeleteConfig, c.Partitions}
	return s.show(done, func(w io.Writer) { fmt.Fprintln(w, "altered", c.Topic) })
}

func (c *topicAlterCmd) check() error {
	if len(c.Config) == 0 && len(c.DeleteConfig) == 0 && c.Partitions == 0 {
		return failf(exitUsage, "alter '%s': nothing to change: give --config, --delete-config or --partitions", c.Topic)
	}
	return nil
}

func (c *topicAlterCmd) alterConfigs(s *session, adm *kadm.Client) error {
	if len(c.Config) == 0 && len(c.DeleteConfig) == 0 {
		return nil
	}
	changes, err := configChanges(c.Config, c.DeleteConfig)
	if err != nil {
		return err
	}
	altered, err := adm.AlterTopicConfigs(s.ctx, changes, c.Topic)
	if err != nil {
		return brokerError("alter the configs of", c.Topic, err)
	}
	for _, r := range altered {
		if err := refused("alter the configs of", c.Topic, r.Err, r.ErrMessage); err != nil {
			return err
		}
	}
	return nil
}

func (c *topicAlterCmd) addPartitions(s *session, adm *kadm.Client) error {
	if c.Partitions == 0 {
		return nil
	}
	added, err := adm.UpdatePartitions(s.ctx, int(c.Partitions), c.Topic)
	if err != nil {
		return brokerError("add partitions to", c.Topic, err)
	}
	for _, r := range added.Sorted() {
		if err := refused("add partitions to", r.Topic, r.Err, r.ErrMessage); err != nil {
			return err
		}
	}
	return nil
}
