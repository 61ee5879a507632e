package upstream

import "net"

// Over has the link reach its broker by dial.
func (o Options) Over(dial func() (net.Conn, error)) Options {
	o.dial = dial
	return o
}
