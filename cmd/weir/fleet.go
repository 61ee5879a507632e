package main

import (
	"io"
	"strings"

	"github.com/weirmq/weir/appliance/console"
)

type fleetCmd struct {
	Members fleetMembersCmd `cmd:"" help:"List the sites that this one knows."`
}

type fleetMembersCmd struct{ httpFlags }

func (c *fleetMembersCmd) Run(s *session) error {
	var answer struct {
		Members []console.Member `json:"members"`
	}
	if err := c.call(s.ctx, "GET", "/v1/members", nil, &answer); err != nil {
		return err
	}
	return s.show(answer.Members, func(w io.Writer) {
		var cells [][]any
		for _, m := range answer.Members {
			var tags []string
			for _, k := range sortedKeys(m.Tags) {
				tags = append(tags, k+"="+m.Tags[k])
			}
			cells = append(cells, []any{m.Name, m.State, m.Address, strings.Join(tags, " ")})
		}
		table(w, []string{"site", "state", "address", "tags"}, cells)
	})
}
