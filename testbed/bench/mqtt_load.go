package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// The load on an MQTT broker, of the bytes that the protocol needs and no more: a
// client library would take more of the processor than the brokers do.

const (
	mqttPayload  = 200 // bytes of JSON
	mqttPatience = 60 * time.Second
)

// mqttClient is one connection of MQTT 3.1.1.
type mqttClient struct {
	nc net.Conn
	in *bufio.Reader
}

// dialMQTT connects; clean false resumes the session of that identifier.
func dialMQTT(address, id string, clean bool) (*mqttClient, error) {
	nc, err := net.DialTimeout("tcp", address, mqttPatience)
	if err != nil {
		return nil, err
	}
	c := &mqttClient{nc: nc, in: bufio.NewReaderSize(nc, 32<<10)}
	flags := byte(0)
	if clean {
		flags = 2
	}
	head := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, flags, 0, 0}, mqttString(id)...) // no keep alive
	if err := c.send(0x10, head); err != nil {
		return nil, err
	}
	kind, body, err := c.next()
	if err != nil || kind != 0x20 || len(body) != 2 || body[1] != 0 {
		return nil, errors.Join(fmt.Errorf("no CONNACK: packet %#x % x", kind, body), err, nc.Close())
	}
	return c, nil
}

func mqttString(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func (c *mqttClient) send(kind byte, body []byte) error {
	_, err := c.nc.Write(appendPacket(nil, kind, body))
	return err
}

func appendPacket(dst []byte, kind byte, body []byte) []byte {
	dst = append(dst, kind)
	dst = binary.AppendUvarint(dst, uint64(len(body))) // MQTT's variable byte integer is the same
	return append(dst, body...)
}

// next returns the next packet; body is valid until the one after.
func (c *mqttClient) next() (kind byte, body []byte, err error) {
	if kind, err = c.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(c.in)
	if err != nil {
		return 0, nil, err
	}
	if body, err = c.in.Peek(int(n)); err != nil {
		return 0, nil, err
	}
	_, err = c.in.Discard(int(n))
	return kind, body, err
}

func (c *mqttClient) subscribe(filter string, qos byte) error {
	if err := c.send(0x82, append(append([]byte{0, 1}, mqttString(filter)...), qos)); err != nil {
		return err
	}
	kind, body, err := c.next()
	if err == nil && (kind != 0x90 || len(body) != 3 || body[2] > 2) {
		err = fmt.Errorf("no SUBACK: packet %#x % x", kind, body)
	}
	return err
}

// publishBody is a PUBLISH of QoS 1, without its identifier's value, and where that stands.
func publishBody(topic string, payload []byte) (body []byte, id int) {
	body = mqttString(topic)
	id = len(body)
	return append(append(body, 0, 0), payload...), id
}

// publish keeps inFlight messages of QoS 1 on their way until n are acknowledged, and
// returns how long each took.
func (c *mqttClient) publish(topic string, payload []byte, n, inFlight int) ([]time.Duration, error) {
	body, id := publishBody(topic, payload)
	packet := appendPacket(nil, 0x32, body)
	id += len(packet) - len(body)
	sent := make([]time.Time, inFlight+1) // by identifier
	took := make([]time.Duration, 0, n)
	var out []byte
	queue := func(identifier int) {
		binary.BigEndian.PutUint16(packet[id:], uint16(identifier))
		out = append(out, packet...)
		sent[identifier] = time.Now()
	}
	started := min(inFlight, n)
	for i := range started {
		queue(i + 1)
	}
	for len(took) < n {
		if _, err := c.nc.Write(out); err != nil {
			return nil, err
		}
		out = out[:0]
		// All that has come: what it makes room for goes in one write.
		for more := true; more && len(took) < n; more = c.in.Buffered() >= 4 {
			kind, body, err := c.next()
			if err != nil {
				return nil, err
			}
			if kind != 0x40 {
				return nil, fmt.Errorf("packet %#x instead of PUBACK", kind)
			}
			identifier := int(binary.BigEndian.Uint16(body))
			if identifier < 1 || identifier > inFlight {
				return nil, fmt.Errorf("PUBACK of %d, which is not in flight", identifier)
			}
			took = append(took, time.Since(sent[identifier]))
			if started < n {
				started++
				queue(identifier)
			}
		}
	}
	return took, nil
}

// publishEach publishes one message of QoS 1 to each of n topics, some hundred at a time.
func (c *mqttClient) publishEach(n int, topic func(i int) string) error {
	const window = 500
	for i := 0; i < n; i += window {
		var out []byte
		count := min(window, n-i)
		for j := range count {
			body, id := publishBody(topic(i+j), jsonPayload())
			binary.BigEndian.PutUint16(body[id:], uint16(j+1))
			out = appendPacket(out, 0x32, body)
		}
		if _, err := c.nc.Write(out); err != nil {
			return err
		}
		for range count {
			if kind, _, err := c.next(); err != nil || kind != 0x40 {
				return errors.Join(fmt.Errorf("packet %#x instead of PUBACK", kind), err)
			}
		}
	}
	return nil
}

// publishAll has so many connections publish n messages in all: messages a second, and
// the 99th percentile of the time until PUBACK in ms.
func publishAll(address string, connections, inFlight, n int) ([]float64, error) {
	clients := make([]*mqttClient, connections)
	defer func() {
		for _, c := range clients {
			if c != nil {
				c.nc.Close()
			}
		}
	}()
	for i := range clients {
		var err error
		if clients[i], err = dialMQTT(address, fmt.Sprintf("bench-%d", i), true); err != nil {
			return nil, err
		}
	}
	took, errs := make([][]time.Duration, connections), make([]error, connections)
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range clients {
		wg.Go(func() {
			took[i], errs[i] = c.publish(fmt.Sprintf("plant/%d/telemetry", i), jsonPayload(), n/connections, inFlight)
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	return []float64{float64(len(all)) / elapsed.Seconds(), float64(all[len(all)*99/100]) / float64(time.Millisecond)}, nil
}

func jsonPayload() []byte {
	b := []byte(`{"device":"pump-017","temp_f":71.3,"at":1700000000123,"pad":"`)
	for len(b) < mqttPayload-2 {
		b = append(b, 'x')
	}
	return append(b, `"}`...)
}

// fanOut has one client publish n messages to so many subscribers: deliveries a second.
func fanOut(address string, subscribers, n int, qos byte) ([]float64, error) {
	subs := make([]*mqttClient, subscribers)
	defer func() {
		for _, c := range subs {
			if c != nil {
				c.nc.Close()
			}
		}
	}()
	for i := range subs {
		var err error
		if subs[i], err = dialMQTT(address, fmt.Sprintf("sub-%d", i), true); err != nil {
			return nil, err
		}
		if err := subs[i].subscribe("fan/out", qos); err != nil {
			return nil, err
		}
	}
	publisher, err := dialMQTT(address, "publisher", true)
	if err != nil {
		return nil, err
	}
	defer publisher.nc.Close()
	errs := make([]error, subscribers+1)
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range subs {
		wg.Go(func() { errs[i] = c.receive(n) })
	}
	_, errs[subscribers] = publisher.publish("fan/out", jsonPayload(), n, 20)
	if errs[subscribers] != nil {
		for _, c := range subs {
			c.nc.Close()
		}
	}
	wg.Wait()
	return []float64{float64(subscribers*n) / time.Since(start).Seconds()}, errors.Join(errs...)
}

// ping waits until the broker has read all that was sent. Messages that come meanwhile
// are a mistake.
func (c *mqttClient) ping() error {
	if err := c.send(0xc0, nil); err != nil {
		return err
	}
	kind, _, err := c.next()
	if err == nil && kind != 0xd0 {
		err = fmt.Errorf("packet %#x instead of PINGRESP", kind)
	}
	return err
}

// receive takes n messages and acknowledges those of QoS 1.
func (c *mqttClient) receive(n int) error {
	var acks []byte
	for got := 0; got < n; {
		if err := c.nc.SetReadDeadline(time.Now().Add(mqttPatience)); err != nil {
			return err
		}
		for more := true; more && got < n; more = c.in.Buffered() > 0 {
			kind, body, err := c.next()
			if err != nil {
				return fmt.Errorf("after %d of %d messages: %w", got, n, err)
			}
			if kind&0xf0 != 0x30 {
				return fmt.Errorf("packet %#x instead of PUBLISH", kind)
			}
			got++
			if kind&6 != 0 {
				at := 2 + int(binary.BigEndian.Uint16(body))
				acks = append(acks, 0x40, 2, body[at], body[at+1])
			}
		}
		if len(acks) > 0 {
			if _, err := c.nc.Write(acks); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			acks = acks[:0]
		}
	}
	return nil
}
