package main

import (
	"fmt"
	"os/exec"
	"time"
)

// The sizes of the row mqtt-offline.
const (
	offlineDevices  = 1_000
	offlineMessages = 50 // that wait for each
)

// mosquittoStoring keeps the sessions of those who are away, with the messages that wait
// for them, and writes all that to its file every half hour, as it does by default.
const mosquittoStoring = `listener %s 127.0.0.1
allow_anonymous true
persistence true
persistence_location %s/
max_inflight_messages 0
max_queued_messages 0
max_connections -1
set_tcp_nodelay true
log_type error
`

// mqttOffline is devices with lasting sessions that were away while messages of QoS 1
// came for them, and that come back and take all of them.
func mqttOffline(o options, t *table) error {
	weir, err := startWeirMQTT(o, "mqtt-weir", weirForMQTT)
	if err != nil {
		return err
	}
	defer weir.end()
	peer, err := startPeer(o, "mosquitto-storing", mosquittoStoring, func(config string) *exec.Cmd { return exec.Command("mosquitto", "-c", config) })
	if err != nil {
		return err
	}
	defer peer.end()
	into := func(b *mqttBroker, name string) (side, error) {
		return side{name, func() ([]float64, error) { return drainOffline(b.address) }}, subscribeOffline(b.address)
	}
	mine, err := into(weir, weir.name)
	if err != nil {
		return err
	}
	other, err := into(peer, "mosquitto, persistence on")
	if err != nil {
		return err
	}
	what := fmt.Sprintf("MQTT, %d devices come back and take %d messages of QoS 1 each that waited", offlineDevices, offlineMessages)
	return t.compare(o.pairs, []measure{{what, "", "deliveries/s"}, {"the same, messages taken in before", "", "messages/s"}}, mine, other)
}

func offlineTopic(i int) string { return fmt.Sprintf("offline/%d", i) }

// subscribeOffline makes the sessions, and leaves.
func subscribeOffline(address string) error {
	return each(offlineDevices, func(i int) error {
		c, err := dialMQTT(address, fmt.Sprintf("offline-%d", i), false)
		if err != nil {
			return err
		}
		defer c.nc.Close()
		return c.subscribe(offlineTopic(i), 1)
	})
}

// drainOffline publishes while the devices are away, and has them come back: deliveries a
// second from the first connection to the last message, and messages a second before.
func drainOffline(address string) ([]float64, error) {
	publisher, err := dialMQTT(address, "publisher", true)
	if err != nil {
		return nil, err
	}
	defer publisher.nc.Close()
	const all = offlineDevices * offlineMessages
	start := time.Now()
	if err := publisher.publishEach(all, func(i int) string { return offlineTopic(i % offlineDevices) }); err != nil {
		return nil, err
	}
	published := time.Since(start)
	start = time.Now()
	if err := each(offlineDevices, func(i int) error {
		c, err := dialMQTT(address, fmt.Sprintf("offline-%d", i), false)
		if err != nil {
			return err
		}
		defer c.nc.Close()
		if err := c.receive(offlineMessages); err != nil {
			return err
		}
		return c.ping() // the last acknowledgements have been read
	}); err != nil {
		return nil, err
	}
	return []float64{all / time.Since(start).Seconds(), all / published.Seconds()}, nil
}
