package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/sparkplug"
	"github.com/weirmq/weir/bridge/upstream"
)

// maxNodeRows is how many edge nodes are printed; --json has more.
const maxNodeRows = 20

// printMQTT prints what the MQTT side says of itself: connections, the brokers upstream,
// and Sparkplug.
func printMQTT(w io.Writer, st *console.Status) {
	var mqtt bridge.Status
	if partStatus(st, "mqtt", &mqtt) {
		fmt.Fprintf(w, "%-15s %d connections, %d sessions, %d subscriptions, %d retained\n", "mqtt",
			mqtt.Connections, mqtt.Sessions, mqtt.Subscriptions, mqtt.Retained)
		fmt.Fprintf(w, "%-15s messages refused %d, not delivered %d; sessions expired %d\n", "", mqtt.Refused, mqtt.Dropped, mqtt.SessionsExpired)
	}
	var links []upstream.Status
	if partStatus(st, "upstream", &links) && len(links) > 0 {
		printUpstream(w, links)
	}
	if mqtt.Sparkplug != nil {
		printSparkplug(w, mqtt.Sparkplug)
	}
}

// partStatus decodes what a part says; false if there is none of the name, or a version
// that says it in other words.
func partStatus(st *console.Status, name string, into any) bool {
	said, ok := st.Parts[name]
	if !ok {
		return false
	}
	raw, err := json.Marshal(said)
	return err == nil && json.Unmarshal(raw, into) == nil
}

func printUpstream(w io.Writer, links []upstream.Status) {
	fmt.Fprintln(w)
	rows := make([][]any, 0, len(links))
	direction := func(d *upstream.Direction) string {
		s := fmt.Sprintf("%d (%d in flight", d.Messages, d.InFlight)
		if d.Held > 0 {
			s += fmt.Sprintf(", %d held", d.Held)
		}
		var refused int64
		for _, n := range d.Refused {
			refused += n
		}
		if refused > 0 {
			s += fmt.Sprintf(", %d refused", refused)
		}
		return s + ")"
	}
	for i := range links {
		l := &links[i]
		rows = append(rows, []any{l.Name, l.URL, l.State, l.Since.UTC().Format("2006-01-02 15:04:05Z"), direction(&l.In), direction(&l.Out), l.Error})
	}
	table(w, []string{"upstream", "url", "state", "since", "in", "out", "error"}, rows)
}

func printSparkplug(w io.Writer, sp *sparkplug.Status) {
	fmt.Fprintf(w, "\nsparkplug: %d groups, %d edge nodes (%d online, %d of them stale, %d offline), %d devices (%d online), %d gaps, %d rebirths asked\n",
		sp.Groups, sp.Nodes, sp.NodesOnline, sp.NodesStale, sp.Nodes-sp.NodesOnline, sp.Devices, sp.DevicesOnline, sp.Gaps, sp.Rebirths)
	if len(sp.Listed) == 0 {
		return
	}
	var rows [][]any
	for i := range sp.Listed[:min(len(sp.Listed), maxNodeRows)] {
		n := &sp.Listed[i]
		rows = append(rows, []any{n.Name, nodeState(n), n.Gaps, n.Rebirths, fmt.Sprintf("%d of %d online", n.DevicesOnline, n.Devices), offline(n)})
	}
	table(w, []string{"edge node", "state", "gaps", "rebirths", "devices", "offline"}, rows)
	if more := sp.Nodes - len(rows); more > 0 {
		fmt.Fprintf(w, "and %d more (weir status --json names %d)\n", more, sparkplug.MaxListed)
	}
}

func nodeState(n *sparkplug.NodeStatus) string {
	switch {
	case !n.Online:
		return "offline"
	case n.Stale:
		return "stale"
	}
	return "online"
}

// offline names the devices that are not online.
func offline(n *sparkplug.NodeStatus) string {
	var names []string
	for _, d := range n.Named {
		if !d.Online {
			names = append(names, d.Name)
		}
	}
	if more := n.Devices - n.DevicesOnline - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
