package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

type groupSeekCmd struct {
	kafkaFlags
	Group     string   `arg:"" help:"Name; a group that is not there is made."`
	To        string   `required:"" placeholder:"PLACE" help:"${position}."`
	Topic     []string `short:"t" help:"Only this topic; may be repeated. Without it all topics that the group has offsets of."`
	Partition []int32  `short:"p" help:"Only this partition; may be repeated."`
	DryRun    bool     `help:"Print what would be set, and set nothing."`
}

// seekRow is one partition's offset, before and after; -1 is none.
type seekRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from_offset"`
	To        int64  `json:"to_offset"`
}

func (c *groupSeekCmd) Run(s *session) error {
	to, err := parsePosition("--to", c.To, time.Now())
	if err != nil {
		return err
	}
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	if err := c.idle(s, adm); err != nil {
		return err
	}
	rows, err := c.plan(s, adm, to)
	if err != nil {
		return err
	}
	if !c.DryRun {
		if err := c.commit(s, adm, rows); err != nil {
			return err
		}
	}
	return s.show(map[string]any{"group": c.Group, "dry_run": c.DryRun, "offsets": rows}, func(w io.Writer) {
		var cells [][]any
		for _, r := range rows {
			cells = append(cells, []any{r.Topic, r.Partition, r.From, r.To})
		}
		table(w, []string{"topic", "partition", "was", "is"}, cells)
		if c.DryRun {
			fmt.Fprintln(w, "\nnothing was set: --dry-run")
		}
	})
}

// idle refuses a group that has members: they would go on where they are, and
// commit over what is set.
func (c *groupSeekCmd) idle(s *session, adm *kadm.Client) error {
	d, err := anyGroup(s, adm, c.Group)
	if exitCode(err) == exitNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if n := len(d.Members); n > 0 {
		return failf(exitFailed, "seek: group '%s' has %d members: stop its consumers first, weir group describe %s names them", c.Group, n, c.Group)
	}
	return nil
}

// plan finds the offset of each partition, and what the group has there now.
func (c *groupSeekCmd) plan(s *session, adm *kadm.Client, to position) ([]seekRow, error) {
	committed, err := adm.FetchOffsets(s.ctx, c.Group)
	if err != nil && !isNoSuchGroup(err) {
		return nil, brokerError("fetch the offsets of", c.Group, err)
	}
	topics := c.Topic
	if len(topics) == 0 {
		topics = slices.Sorted(maps.Keys(committed))
	}
	if len(topics) == 0 {
		return nil, failf(exitNotFound, "seek: group '%s' has no offsets: name the topics with --topic", c.Group)
	}
	targets, err := to.resolve(s, adm, true, topics...)
	if err != nil {
		return nil, err
	}
	rows := []seekRow{}
	for _, topic := range topics {
		for _, o := range targets.Offsets().Sorted() {
			if o.Topic != topic || len(c.Partition) > 0 && !slices.Contains(c.Partition, o.Partition) {
				continue
			}
			row := seekRow{topic, o.Partition, -1, o.At}
			if was, ok := committed.Lookup(topic, o.Partition); ok {
				row.From = was.At
			}
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return nil, failf(exitNotFound, "seek: %s has none of the partitions %v", strings.Join(topics, ","), c.Partition)
	}
	return rows, nil
}

func (c *groupSeekCmd) commit(s *session, adm *kadm.Client, rows []seekRow) error {
	var offsets kadm.Offsets
	for _, r := range rows {
		offsets.AddOffset(r.Topic, r.Partition, r.To, -1)
	}
	return brokerError("seek", c.Group, adm.CommitAllOffsets(s.ctx, c.Group, offsets))
}
