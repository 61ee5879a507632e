package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// probeListeners binds and frees every address before anything else happens: a
// port in use is the commonest mistake, and recovery may take a while.
func probeListeners(cfg *firmwareconfig.Config) error {
	for _, l := range cfg.Listeners() {
		if l.Unix() {
			continue
		}
		ln, err := listen(l.Flag, l.Address)
		if err != nil {
			return err
		}
		if err := ln.Close(); err != nil {
			return fmt.Errorf("%s %s: %w", l.Flag, l.Address, err)
		}
	}
	return nil
}

// listen binds a listener's address. Its error names the flag and the mend.
func listen(flag, address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err == nil {
		return ln, nil
	}
	host, _, _ := net.SplitHostPort(address)
	free := net.JoinHostPort(host, "0")
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s: address already in use: another weir? try %s %s", flag, address, flag, free)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s %s: not allowed to listen there: choose a port above 1023, such as %s %s", flag, address, flag, free)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s %s: this machine does not have that address: see ip address", flag, address)
	}
	return nil, fmt.Errorf("%s %s: cannot listen: %s", flag, address, rootCause(err))
}
