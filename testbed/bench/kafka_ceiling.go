package main

import (
	"context"
	"fmt"
)

// kafkaCeiling is what is left for a broker to gain over Kafka beside these clients
// on this machine: the rows kafka-* with a broker that does nothing in Weir's place.
// Where its ratio is below a goal no broker can reach that goal.
func kafkaCeiling(o options, t *table) error {
	return withPeers(o, t, "kafka-ceiling", func(p *peers) error {
		if err := p.ceilingOfProducers(o, t, ceilingName, ""); err != nil {
			return err
		}
		if err := p.ceilingOfProducers(o, t, filesName, o.dir); err != nil {
			return err
		}
		if err := p.ceilingOfConsumers(o, t); err != nil {
			return err
		}
		return p.ceilingOfLatency(o, t)
	})
}

func ceilingName(of string) string { return "no broker at all: " + of }
func filesName(of string) string   { return "no broker but for files without a sync: " + of }

func (p *peers) ceilingOfProducers(o options, t *table, title func(of string) string, dir string) error {
	c, err := newCeiling(false, dir, loadPartitions)
	if err != nil {
		return err
	}
	defer c.ln.Close()
	for _, client := range p.clients.all() {
		for _, size := range []int{200, 1024} {
			if err := p.ceilingOfProducer(o, t, c, client, size, title); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *peers) ceilingOfProducer(o options, t *table, c *ceiling, client load, size int, title func(of string) string) error {
	name := title(fmt.Sprintf("%s producer, acks=all, %d B", client.name, size))
	full := []measure{{name, "", "records/s"}, {name + ", p99 at full speed", "", "ms"}}
	if err := p.beside(o, t, full, c, loadPartitions, func(addr, topic string) ([]float64, error) {
		return client.produce(addr, topic, o.load/size, size, 0)
	}); err != nil {
		return err
	}
	paced := []measure{{fmt.Sprintf("%s, p99 at %d records/s", name, pacedRates[size]), "", "ms"}}
	return p.beside(o, t, paced, c, loadPartitions, func(addr, topic string) ([]float64, error) {
		got, err := client.produce(addr, topic, pacedRates[size]*pacedSeconds, size, pacedRates[size])
		if err != nil {
			return nil, err
		}
		return got[len(got)-1:], nil
	})
}

func (p *peers) ceilingOfLatency(o options, t *table) error {
	c, err := newCeiling(true, "", 1)
	if err != nil {
		return err
	}
	defer c.ln.Close()
	for _, linger := range []string{"0", "5"} {
		name := ceilingName(fmt.Sprintf("produced to consumed at %d records/s, librdkafka, linger.ms=%s", latencyRate, linger))
		measures := []measure{{name + ", p50", "", "ms"}, {name + ", p99", "", "ms"}}
		if err := p.beside(o, t, measures, c, 1, func(addr, topic string) ([]float64, error) { return p.clients.latency(addr, topic, linger) }); err != nil {
			return err
		}
	}
	return nil
}

func (p *peers) ceilingOfConsumers(o options, t *table) error {
	const size = 1024
	c, err := newCeiling(true, "", loadPartitions)
	if err != nil {
		return err
	}
	defer c.ln.Close()
	if _, err := p.kafka.adm.CreateTopic(context.Background(), loadPartitions, 1, nil, topicName); err != nil {
		return err
	}
	n := o.load / size
	for _, addr := range []string{c.addr(), p.kafka.addr} {
		if _, err := p.clients.librdkafka().produce(addr, topicName, n, size, 0); err != nil {
			return err
		}
	}
	for _, client := range p.clients.all() {
		read := func(addr string) func() ([]float64, error) {
			return func() ([]float64, error) { return client.consume(addr, topicName, loadPartitions, n) }
		}
		name := ceilingName(fmt.Sprintf("%s consumer catches up, %d B", client.name, size))
		if err := t.compare(o.pairs, []measure{{name, "", "records/s"}}, side{"nothing", read(c.addr())}, side{p.kafka.name, read(p.kafka.addr)}); err != nil {
			return err
		}
	}
	return nil
}

// beside lets the ceiling and Kafka take turns, Kafka with a new topic each time.
func (p *peers) beside(o options, t *table, measures []measure, c *ceiling, partitions int32, use func(addr, topic string) ([]float64, error)) error {
	return t.compare(o.pairs, measures,
		side{"nothing", func() ([]float64, error) {
			if err := warm(p.dir); err != nil {
				return nil, err
			}
			p.made++
			return use(c.addr(), fmt.Sprint("nothing-", p.made))
		}},
		side{p.kafka.name, func() ([]float64, error) {
			return p.withTopic(p.kafka, partitions, func(topic string) ([]float64, error) { return use(p.kafka.addr, topic) })
		}})
}
