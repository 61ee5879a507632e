package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

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
