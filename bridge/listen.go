package bridge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Listener is a place where devices connect.
type Listener struct {
	Addr    string // HOST:PORT; port 0 picks one
	Encrypt bool   // by TLS, as Options.TLS says
	// Anonymous lets devices in that do not say who they are.
	Anonymous bool
}

func bind(listeners []Listener) (bound []net.Listener, err error) {
	if len(listeners) == 0 {
		return nil, errors.New("bridge: there is no address to listen on")
	}
	for _, want := range listeners {
		l, err := net.Listen("tcp", want.Addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("bridge: listen for MQTT: %w", err), unbind(bound))
		}
		bound = append(bound, l)
	}
	return bound, nil
}

func unbind(bound []net.Listener) error {
	var errs []error
	for _, l := range bound {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// serve accepts from every listener until the server is closed.
func (b *Bridge) serve(opts *Options) {
	for i, l := range b.bound {
		want := opts.Listeners[i]
		if want.Encrypt {
			l = tls.NewListener(l, opts.TLS)
		}
		b.serving.Go(func() { b.server.ServeFor(l, want.Anonymous) })
	}
}

func (b *Bridge) addrs() string {
	var all []string
	for _, l := range b.bound {
		all = append(all, l.Addr().String())
	}
	return strings.Join(all, ",")
}
