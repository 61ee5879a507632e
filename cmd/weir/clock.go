package main

import (
	"fmt"
	"io"
	"time"

	"github.com/weirmq/weir/appliance/clock"
)

type clockCmd struct {
	Status  clockStatusCmd  `cmd:"" help:"Show what time the appliance goes by, and why."`
	Confirm clockConfirmCmd `cmd:"" help:"Say that the machine's clock is right now, where no time service can."`
}

type clockStatusCmd struct{ httpFlags }

func (c *clockStatusCmd) Run(s *session) error {
	var st struct {
		Parts struct {
			Broker struct {
				Clock *clock.Status `json:"clock"`
			} `json:"broker"`
		} `json:"parts"`
	}
	if err := c.call(s.ctx, "GET", "/v1/status", nil, &st); err != nil {
		return err
	}
	shown := st.Parts.Broker.Clock
	if shown == nil {
		return failf(exitFailed, "the log of the appliance at %s is not open yet: see weir status", c.HTTP)
	}
	return s.show(shown, func(w io.Writer) { printClock(w, shown) })
}

type clockConfirmCmd struct{ httpFlags }

func (c *clockConfirmCmd) Run(s *session) error {
	var st struct {
		Clock clock.Status `json:"clock"`
	}
	if err := c.call(s.ctx, "POST", "/v1/clock/confirm", nil, &st); err != nil {
		return err
	}
	return s.show(st.Clock, func(w io.Writer) { printClock(w, &st.Clock) })
}

func printClock(w io.Writer, st *clock.Status) {
	trust, sync := "trusted", "not kept by a time service"
	if !st.Trusted {
		trust = "not trusted"
	}
	if st.Synchronised {
		sync = "kept by a time service"
	}
	fmt.Fprintf(w, "%s, since %s; %s\n", trust, st.Since.Format(time.RFC3339), sync)
	fmt.Fprintf(w, "records are stamped %s, the machine says %s\n", st.Now.Format(time.RFC3339), st.Machine.Format(time.RFC3339))
}
