package main

import (
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kadm"
)

type groupCmd struct {
	List     groupListCmd     `cmd:"" help:"List consumer groups."`
	Describe groupDescribeCmd `cmd:"" help:"Show a group's members, offsets and lag."`
}

type groupListCmd struct{ kafkaFlags }

type groupRow struct {
	Group    string `json:"group"`
	State    string `json:"state"`
	Protocol string `json:"protocol_type"`
}

func (c *groupListCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	groups, err := adm.ListGroups(s.ctx)
	if err != nil {
		return brokerError("list groups", "*", err)
	}
	rows := []groupRow{}
	for _, g := range groups.Sorted() {
		rows = append(rows, groupRow{g.Group, g.State, g.ProtocolType})
	}
	return s.show(rows, func(w io.Writer) {
		var cells [][]any
		for _, r := range rows {
			cells = append(cells, []any{r.Group, r.State, r.Protocol})
		}
		table(w, []string{"group", "state", "protocol"}, cells)
	})
}

type groupDescribeCmd struct {
	kafkaFlags
	Group string `arg:"" help:"Name."`
}

type lagRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed_offset"` // -1: none
	End       int64  `json:"high_watermark"`
	Lag       int64  `json:"lag"`
	Member    string `json:"member,omitempty"`
}

type groupDescription struct {
	Group   string   `json:"group"`
	State   string   `json:"state"`
	Members int      `json:"members"`
	Lag     int64    `json:"lag"`
	Offsets []lagRow `json:"offsets"`
}

func (c *groupDescribeCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	lags, err := adm.Lag(s.ctx, c.Group)
	if err != nil {
		return brokerError("describe", c.Group, err)
	}
	g := lags[c.Group]
	if err := g.Error(); err != nil {
		return brokerError("describe", c.Group, err)
	}
	if g.State == "Dead" && len(g.Lag) == 0 { // how brokers before KIP-1043 say it
		return failf(exitNotFound, "group '%s' does not exist: see weir group list", c.Group)
	}
	d := describeGroup(g)
	return s.show(d, func(w io.Writer) {
		fmt.Fprintf(w, "group %s is %s, members %d, lag %d\n\n", d.Group, d.State, d.Members, d.Lag)
		var cells [][]any
		for _, r := range d.Offsets {
			cells = append(cells, []any{r.Topic, r.Partition, r.Committed, r.End, r.Lag, r.Member})
		}
		table(w, []string{"topic", "partition", "committed", "high watermark", "lag", "member"}, cells)
	})
}

func describeGroup(g kadm.DescribedGroupLag) groupDescription {
	d := groupDescription{Group: g.Group, State: g.State, Members: len(g.Members), Lag: g.Lag.Total(), Offsets: []lagRow{}}
	for _, l := range g.Lag.Sorted() {
		row := lagRow{Topic: l.Topic, Partition: l.Partition, Committed: l.Commit.At, End: l.End.Offset, Lag: l.Lag}
		if l.Member != nil {
			row.Member = l.Member.MemberID
		}
		d.Offsets = append(d.Offsets, row)
	}
	return d
}
