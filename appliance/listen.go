package appliance

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/weirmq/weir/appliance/kafka"
)

// Listener is a place where Kafka clients connect.
type Listener struct {
	Address  string // "host:port"; port 0 picks one
	Protocol kafka.Protocol
	// Advertised is that of kafka.Security.
	Advertised string
}

// serve binds the listeners and has the server accept from them.
func (b *Broker) serve(o Options) error {
	wanted := o.Listeners
	if len(wanted) == 0 {
		wanted = []Listener{{Address: o.Kafka, Protocol: kafka.Plaintext}}
	}
	for _, w := range wanted {
		if err := kafka.CheckAdvertised(w.Advertised); err != nil {
			return fmt.Errorf("kafka listener %s: %w", w.Address, err)
		}
	}
	for i, w := range wanted {
		l := o.Listener
		if l == nil || i > 0 || len(o.Listeners) > 0 {
			var err error
			if l, err = net.Listen("tcp", w.Address); err != nil {
				return errors.Join(fmt.Errorf("kafka listener: %w: is another broker running there? choose another address with --kafka", err), b.unbind())
			}
		}
		b.bound = append(b.bound, l)
	}
	for i, l := range b.bound {
		sec := kafka.Security{Protocol: wanted[i].Protocol, Advertised: wanted[i].Advertised}
		if sec.Protocol.TLS() {
			sec.TLS = o.TLS
		}
		b.log.Info("kafka listener started", "address", l.Addr(), "protocol", string(sec.Protocol))
		b.serving.Go(func() {
			if err := b.server.ServeSecure(l, sec); err != nil {
				b.log.Error("kafka listener ended", "error", err)
			}
		})
	}
	return nil
}

// unbind frees the listeners that nobody serves yet.
func (b *Broker) unbind() error {
	var errs []error
	for _, l := range b.bound {
		errs = append(errs, l.Close())
	}
	b.bound = nil
	return errors.Join(errs...)
}

// kafkaAddrs are the addresses of all listeners.
func (b *Broker) kafkaAddrs() string {
	var all []string
	for _, l := range b.bound {
		all = append(all, l.Addr().String())
	}
	return strings.Join(all, ",")
}
