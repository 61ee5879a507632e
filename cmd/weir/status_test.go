package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/weirmq/weir/appliance/console"
)

func TestStatusOfMQTT(t *testing.T) {
	var st console.Status
	if err := json.Unmarshal([]byte(`{"parts": {
		"mqtt": {"addr": "127.0.0.1:1883", "connections": 2, "sessions": 5, "subscriptions": 7, "retained_messages": 3, "messages_refused": 4, "messages_dropped": 6, "sessions_expired": 1,
			"sparkplug": {"groups": 2, "nodes": 22, "nodes_online": 21, "nodes_stale": 1, "devices": 30, "devices_online": 28, "gaps": 8, "rebirths": 9, "edge_nodes": [
				{"name": "plant/press", "online": false, "stale": true, "gaps": 3, "rebirths": 2, "devices": 30, "devices_online": 28, "named_devices": [{"name": "arm", "online": false}, {"name": "belt", "online": true}]},
				{"name": "plant/oven", "online": true, "stale": true, "gaps": 5, "rebirths": 7},
				{"name": "yard/crane", "online": true}]}},
		"upstream": [
			{"name": "site", "url": "mqtts://broker:8883", "state": "stalled", "since": "2026-01-02T03:04:05Z", "in": {"messages": 12, "in_flight": 1, "held": 1, "refused": {"not_authorized": 2, "packet_too_large": 1}}, "out": {"messages": 9, "in_flight": 0}},
			{"name": "away", "url": "mqtt://gone:1883", "state": "connecting", "since": "2026-01-02T03:04:05Z", "error": "connection refused"}]}}`), &st); err != nil {
		t.Fatal(err)
	}
	const want = `mqtt            2 connections, 5 sessions, 7 subscriptions, 3 retained
                messages refused 4, not delivered 6; sessions expired 1

UPSTREAM  URL                  STATE       SINCE                 IN                                   OUT              ERROR
site      mqtts://broker:8883  stalled     2026-01-02 03:04:05Z  12 (1 in flight, 1 held, 3 refused)  9 (0 in flight)  
away      mqtt://gone:1883     connecting  2026-01-02 03:04:05Z  0 (0 in flight)                      0 (0 in flight)  connection refused

sparkplug: 2 groups, 22 edge nodes (21 online, 1 of them stale, 1 offline), 30 devices (28 online), 8 gaps, 9 rebirths asked
EDGE NODE    STATE    GAPS  REBIRTHS  DEVICES          OFFLINE
plant/press  offline  3     2         28 of 30 online  arm, 1 more
plant/oven   stale    5     7         0 of 0 online    
yard/crane   online   0     0         0 of 0 online    
and 19 more (weir status --json names 100)
`
	var got bytes.Buffer
	printMQTT(&got, &st)
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}
