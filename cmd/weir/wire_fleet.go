package main

import (
	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/mirror/membership"
)

// startFleet takes part in the fleet's gossip, if there is a fleet. Other sites
// need not be reachable.
func (b *box) startFleet() error {
	if b.cfg.Fleet.Bind == "" {
		return nil
	}
	fleet, err := membership.Start(fleetOptions(&b.cfg, b.log))
	if err != nil {
		return err
	}
	b.bound("fleet", fleet.Addr())
	b.add(part{name: "fleet", status: func() any { return fleet.Status() }, close: fleet.Close,
		fill: func(s *console.Snapshot) {
			for _, m := range fleet.Members() {
				s.Members = append(s.Members, console.Member{Name: m.Name, Address: m.Addr, State: string(m.Status), Tags: m.Tags})
			}
		}})
	return nil
}
