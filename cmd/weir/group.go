package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
)

type groupCmd struct {
	List     groupListCmd     `cmd:"" help:"List consumer groups."`
	Describe groupDescribeCmd `cmd:"" help:"Show a group's members, offsets and lag."`
	Seek     groupSeekCmd     `cmd:"" aliases:"reset-offsets" help:"Set a group's offsets; its consumers must be stopped."`
	Delete   groupDeleteCmd   `cmd:"" help:"Delete groups and their offsets; their consumers must be stopped."`
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

type memberRow struct {
	ID         string `json:"member_id"`
	Instance   string `json:"instance_id,omitempty"`
	Client     string `json:"client_id"`
	Host       string `json:"host"`
	Partitions int    `json:"partitions"`
}

type groupDescription struct {
	Group       string      `json:"group"`
	State       string      `json:"state"`
	Assignor    string      `json:"assignor,omitempty"`
	Coordinator int32       `json:"coordinator"`
	Members     []memberRow `json:"members"`
	Lag         int64       `json:"lag"`
	Offsets     []lagRow    `json:"offsets"`
}

func (c *groupDescribeCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	d, err := anyGroup(s, adm, c.Group)
	if err != nil {
		return err
	}
	return s.show(d, func(w io.Writer) {
		fmt.Fprintf(w, "group %s is %s, members %d, lag %d\n\n", d.Group, d.State, len(d.Members), d.Lag)
		d.printMembers(w)
		var cells [][]any
		for _, r := range d.Offsets {
			cells = append(cells, []any{r.Topic, r.Partition, r.Committed, r.End, r.Lag, r.Member})
		}
		table(w, []string{"topic", "partition", "committed", "high watermark", "lag", "member"}, cells)
	})
}

// anyGroup describes a group of either protocol.
func anyGroup(s *session, adm *kadm.Client, group string) (groupDescription, error) {
	if d, found, err := describeConsumerGroup(s, adm, group); found || err != nil {
		return d, err
	}
	lags, err := adm.Lag(s.ctx, group)
	if err != nil {
		return groupDescription{}, brokerError("describe", group, err)
	}
	g := lags[group]
	if err := g.Error(); err != nil {
		return groupDescription{}, brokerError("describe", group, err)
	}
	if g.State == "Dead" && len(g.Lag) == 0 { // how brokers before KIP-1043 say it
		return groupDescription{}, noSuchGroup("describe", group)
	}
	return describeGroup(g), nil
}

func (d groupDescription) printMembers(w io.Writer) {
	if len(d.Members) == 0 {
		return
	}
	var cells [][]any
	for _, m := range d.Members {
		cells = append(cells, []any{m.ID, m.Client, m.Host, m.Partitions})
	}
	table(w, []string{"member", "client", "host", "partitions"}, cells)
	fmt.Fprintln(w)
}

func describeGroup(g kadm.DescribedGroupLag) groupDescription {
	d := groupDescription{Group: g.Group, State: g.State, Assignor: g.Protocol, Coordinator: g.Coordinator.NodeID, Lag: g.Lag.Total(),
		Members: []memberRow{}, Offsets: []lagRow{}}
	for _, m := range g.Members {
		row := memberRow{ID: m.MemberID, Client: m.ClientID, Host: m.ClientHost}
		if m.InstanceID != nil {
			row.Instance = *m.InstanceID
		}
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range assigned.Topics {
				row.Partitions += len(t.Partitions)
			}
		}
		d.Members = append(d.Members, row)
	}
	for _, l := range g.Lag.Sorted() {
		row := lagRow{Topic: l.Topic, Partition: l.Partition, Committed: l.Commit.At, End: l.End.Offset, Lag: l.Lag}
		if l.Member != nil {
			row.Member = l.Member.MemberID
		}
		d.Offsets = append(d.Offsets, row)
	}
	return d
}

func noSuchGroup(doing, group string) error {
	return failf(exitNotFound, "%s: group '%s' does not exist: see weir group list", doing, group)
}

type groupDeleteCmd struct {
	kafkaFlags
	Groups []string `arg:"" help:"Names."`
}

func (c *groupDeleteCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	deleted, err := adm.DeleteGroups(s.ctx, c.Groups...)
	if err != nil {
		return brokerError("delete", strings.Join(c.Groups, ","), err)
	}
	for _, r := range deleted.Sorted() {
		if err := brokerError("delete", r.Group, r.Err); err != nil {
			return err
		}
	}
	return s.show(map[string]any{"deleted": c.Groups}, func(w io.Writer) { fmt.Fprintln(w, "deleted", strings.Join(c.Groups, " ")) })
}
