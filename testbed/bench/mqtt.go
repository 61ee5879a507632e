package main

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/weirmq/weir/appliance/vfs"
)

// The sizes of the MQTT rows.
const (
	mqttMessages  = 200_000 // of a run of the publish rows
	natsMessages  = 20_000  // of one against nats-server
	slowMessages  = 4_000   // of one against a broker that syncs for each
	fanSubs       = 1_000
	fanMessages   = 200
	idleConns     = 20_000
	stormDevices  = 10_000
	fewFilters    = 100
	manyFilters   = 100_000
	filtersOfEach = 250
	ownFiles      = 1_500 // what a process has open beside its connections
)

// weirForMQTT is the sync profile: PUBACK comes after an fdatasync, without linger.
const weirForMQTT = `storage: {commit.profile: sync}
mqtt: {max_connections: 50000, max_connections_per_ip: 50000, max_sessions: 50000, max_filters: 1000}
`

// mqttPublish is QoS 1 in Weir, on the disk before PUBACK, against brokers that keep
// it in memory or store it in their way.
func mqttPublish(o options, t *table) error {
	weir, err := startWeirMQTT(o, "mqtt-weir", weirForMQTT)
	if err != nil {
		return err
	}
	defer weir.end()
	for _, peer := range []struct {
		start    func() (*mqttBroker, error)
		name     string
		messages int
		goals    [2]string // of 50 x 20 and 1 x 100
		latency  string
	}{
		{func() (*mqttBroker, error) { return startMosquitto(o) }, "mosquitto, in memory", mqttMessages, [2]string{">= 4", ">= 2"}, "<= 0.5"},
		{func() (*mqttBroker, error) { return startNATS(o, "always") }, "nats-server, sync always", slowMessages, [2]string{">= 50", ""}, ""},
		{func() (*mqttBroker, error) { return startNATS(o, "2m") }, "nats-server, sync every 2 min", natsMessages, [2]string{">= 5", ""}, ""},
	} {
		b, err := peer.start()
		if errors.Is(err, exec.ErrNotFound) {
			t.add("MQTT against "+peer.name, "skipped: "+err.Error(), "", "", "")
			continue
		}
		if err != nil {
			return err
		}
		for i, load := range []struct{ connections, inFlight int }{{50, 20}, {1, 100}} {
			what := fmt.Sprintf("MQTT QoS 1, %d connections x %d in flight", load.connections, load.inFlight)
			mine := side{"Weir", func() ([]float64, error) {
				return publishAll(weir.address, load.connections, load.inFlight, mqttMessages)
			}}
			other := side{peer.name, func() ([]float64, error) {
				return publishAll(b.address, load.connections, load.inFlight, peer.messages)
			}}
			measures := []measure{{what, peer.goals[i], "messages/s"}, {what + ", 99 % of PUBACKs within", peer.latency, "ms"}}
			if i > 0 {
				measures[1].goal = ""
			}
			if err = t.compare(o.pairs, measures, mine, other); err != nil {
				break
			}
		}
		b.end()
		if err != nil {
			return err
		}
	}
	return nil
}

// mqttFanOut is one publisher and a thousand subscribers.
func mqttFanOut(o options, t *table) error {
	weir, err := startWeirMQTT(o, "mqtt-weir", weirForMQTT)
	if err != nil {
		return err
	}
	defer weir.end()
	peer, err := startMosquitto(o)
	if err != nil {
		return err
	}
	defer peer.end()
	for qos := range byte(2) {
		what := fmt.Sprintf("MQTT fan-out, 1 publisher, %d subscribers of QoS %d", fanSubs, qos)
		into := func(b *mqttBroker) side {
			return side{b.name, func() ([]float64, error) { return fanOut(b.address, fanSubs, fanMessages, qos) }}
		}
		if err := t.compare(o.pairs, []measure{{what, ">= 2", "deliveries/s"}}, into(weir), into(peer)); err != nil {
			return err
		}
	}
	return nil
}

// mqttIdle is what a connection that says nothing costs.
func mqttIdle(o options, t *table) error {
	weir, err := startWeirMQTT(o, "mqtt-weir", weirForMQTT)
	if err != nil {
		return err
	}
	defer weir.end()
	before, err := residentMiB(weir.pid)
	if err != nil {
		return err
	}
	n := min(idleConns, vfs.OpenFileLimit()-ownFiles) // each is a file in both processes
	clients, err := dialMany(weir.address, n, "idle")
	defer closeAll(clients)
	if err != nil {
		return err
	}
	time.Sleep(idleBefore)
	after, err := residentMiB(weir.pid)
	if err != nil {
		return err
	}
	t.alone(measure{fmt.Sprintf("MQTT, %d idle connections, resident for each", n), "<= 8", "KiB"}, []float64{(after - before) * 1024 / float64(n)})
	return nil
}

// mqttFilters is what a publish costs with many subscriptions of others.
func mqttFilters(o options, t *table) error {
	weir, err := startWeirMQTT(o, "mqtt-weir", weirForMQTT)
	if err != nil {
		return err
	}
	defer weir.end()
	var clients []*mqttClient
	defer func() { closeAll(clients) }()
	subscribe := func(n int) error {
		for i := len(clients) * filtersOfEach; i < n; i += filtersOfEach {
			c, err := dialMQTT(weir.address, fmt.Sprintf("filters-%d", i), true)
			if err != nil {
				return err
			}
			clients = append(clients, c)
			for j := range min(filtersOfEach, n-i) {
				if err := c.subscribe(fmt.Sprintf("other/%d/+/of/%d/#", i, j), 0); err != nil {
					return err
				}
			}
		}
		return nil
	}
	// The subscriptions cannot come and go between turns: each figure is a run of its own.
	run := func() ([]float64, error) { return publishAll(weir.address, 50, 20, mqttMessages) }
	var few, many []float64
	for _, step := range []struct {
		n   int
		got *[]float64
	}{{fewFilters, &few}, {manyFilters, &many}} {
		if err := subscribe(step.n); err != nil {
			return err
		}
		for range o.pairs {
			got, err := run()
			if err != nil {
				return err
			}
			*step.got = append(*step.got, 1e6/got[0])
		}
	}
	t.alone(measure{fmt.Sprintf("MQTT publish with %d subscriptions of others", fewFilters), "", "us"}, few)
	t.alone(measure{fmt.Sprintf("MQTT publish with %d subscriptions of others", manyFilters), fmt.Sprintf("<= %.2f, twice", 2*median(few)), "us"}, many)
	return nil
}

// mqttStorm is devices that all come back at once and resume their sessions, each with
// a message that waits for it.
func mqttStorm(o options, t *table) error {
	weir, err := startWeirMQTT(o, "mqtt-weir", weirForMQTT)
	if err != nil {
		return err
	}
	defer weir.end()
	filter := func(i int) string { return fmt.Sprintf("storm/%d", i) }
	if err := each(stormDevices, func(i int) error {
		c, err := dialMQTT(weir.address, filter(i), false)
		if err != nil {
			return err
		}
		defer c.nc.Close()
		return c.subscribe(filter(i), 1)
	}); err != nil {
		return err
	}
	var took []float64
	for range o.pairs {
		publisher, err := dialMQTT(weir.address, "publisher", true)
		if err != nil {
			return err
		}
		err = publisher.publishEach(stormDevices, filter)
		publisher.nc.Close()
		if err != nil {
			return err
		}
		start := time.Now()
		if err := each(stormDevices, func(i int) error {
			c, err := dialMQTT(weir.address, filter(i), false)
			if err != nil {
				return err
			}
			defer c.nc.Close()
			return c.receive(1)
		}); err != nil {
			return err
		}
		took = append(took, time.Since(start).Seconds())
	}
	t.alone(measure{fmt.Sprintf("MQTT, %d devices resume their sessions and have their message", stormDevices), "<= 10", "s"}, took)
	return nil
}

// each runs do for 0 to n-1, some hundred at a time.
func each(n int, do func(i int) error) error {
	errs := make([]error, n)
	free := make(chan struct{}, 200*runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i := range n {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			errs[i] = do(i)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func dialMany(address string, n int, prefix string) ([]*mqttClient, error) {
	clients := make([]*mqttClient, n)
	err := each(n, func(i int) (err error) {
		clients[i], err = dialMQTT(address, fmt.Sprintf("%s-%d", prefix, i), true)
		return err
	})
	return clients, err
}

func closeAll(clients []*mqttClient) {
	for _, c := range clients {
		if c != nil {
			c.nc.Close()
		}
	}
}
