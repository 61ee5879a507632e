package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/weirmq/weir/appliance/console"
)

type statusCmd struct{ httpFlags }

func (c *statusCmd) Run(s *session) error {
	if s.json { // the document as it is, with keys that this version does not know
		var raw []byte
		if err := c.call(s.ctx, "GET", "/v1/status", nil, &raw); err != nil {
			return err
		}
		_, err := s.out.Write(raw)
		return err
	}
	var st console.Status
	if err := c.call(s.ctx, "GET", "/v1/status", nil, &st); err != nil {
		return err
	}
	printStatus(s.out, &st)
	return nil
}

func printStatus(w io.Writer, st *console.Status) {
	state := "ready"
	if !st.Ready {
		state = "not ready: " + st.WaitingFor
	}
	fmt.Fprintf(w, "site %s, weir %s, up %s, %s\n", st.Site, st.Version,
		(time.Duration(st.UptimeSeconds) * time.Second).String(), state)
	for _, warning := range st.Warnings {
		fmt.Fprintf(w, "! %s\n", warning.Text)
	}
	fmt.Fprintln(w)
	var cells [][]any
	for _, name := range slices.Sorted(maps.Keys(st.Addresses)) {
		cells = append(cells, []any{name, st.Addresses[name]})
	}
	t := &st.Totals
	cells = append(cells,
		[]any{"data", st.DataDir},
		[]any{"disk", diskText(&st.Disk)},
		[]any{"forecast", st.Disk.Forecast},
		[]any{"devices", t.DevicesConnected},
		[]any{"messages in", t.MessagesIn},
		[]any{"messages acked", t.MessagesAcked},
		[]any{"transformed", t.Transformed},
		[]any{"mirrored", fmt.Sprintf("%d, lag %d", t.Mirrored, t.MirrorLag)},
		[]any{"dead letters", t.DeadLetters},
		[]any{"topics", len(st.Topics)},
		[]any{"groups", len(st.Groups)},
	)
	for i := range cells {
		cells[i][0] = fmt.Sprintf("%-15s", cells[i][0])
		fmt.Fprintln(w, cells[i]...)
	}
	printMQTT(w, st)
}

// diskText is the room in one line.
func diskText(d *console.Disk) string {
	budget := "no budget"
	if d.BudgetBytes >= 0 {
		budget = "budget " + bytesText(d.BudgetBytes)
	}
	return fmt.Sprintf("%s log, %s, %s free, reserve %s (%s held)",
		bytesText(d.LogBytes), budget, bytesText(d.FreeBytes), bytesText(d.ReserveBytes), bytesText(d.BallastBytes))
}
