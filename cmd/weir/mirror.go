package main

import (
	"io"

	"github.com/weirmq/weir/appliance/console"
)

type mirrorCmd struct {
	Status mirrorStatusCmd `cmd:"" help:"Show each flow's state, progress and lag."`
}

type mirrorStatusCmd struct{ httpFlags }

func (c *mirrorStatusCmd) Run(s *session) error {
	var st console.Status
	if err := c.call(s.ctx, "GET", "/v1/status", nil, &st); err != nil {
		return err
	}
	return s.show(st.Flows, func(w io.Writer) {
		var cells [][]any
		for _, f := range st.Flows {
			cells = append(cells, []any{f.Name, f.State, f.Peer, f.Topics, f.Mirrored, f.Lag, f.Error})
		}
		table(w, []string{"flow", "state", "peer", "topics", "mirrored", "lag", "error"}, cells)
	})
}
