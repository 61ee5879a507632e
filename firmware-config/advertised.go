package firmwareconfig

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// checkAdvertised finds addresses that no client could dial, and one that is said for
// several listeners: all but one of them would send their clients away, to another
// protocol at that.
func (c *Config) checkAdvertised() error {
	var errs []error
	var silent []string
	for i, entry := range c.Kafka.Listen {
		if entry.Advertised == "" {
			silent = append(silent, entry.Address)
		} else if err := CheckDialable(entry.Advertised); err != nil {
			errs = append(errs, fmt.Errorf("kafka.listen[%d].advertised: %w", i, err))
		}
	}
	if c.Kafka.Advertised != "" {
		if err := CheckDialable(c.Kafka.Advertised); err != nil {
			errs = append(errs, fmt.Errorf("kafka.advertised: %w", err))
		}
		if len(silent) > 1 {
			errs = append(errs, fmt.Errorf("kafka.advertised is one address for %d listeners: say it with the entry it is for, as in "+
				"kafka.listen: [{address: \"%s\", advertised: \"%s\"}]", len(silent), silent[0], c.Kafka.Advertised))
		}
	}
	return errors.Join(errs...)
}

// CheckDialable tells whether clients elsewhere could dial the address.
func CheckDialable(text string) error {
	if scheme, address, ok := strings.Cut(text, "://"); ok {
		return fmt.Errorf("'%s' begins with a protocol; it is the listener's: write %s without %s://", text, address, scheme)
	}
	if err := CheckAddress(text); err != nil {
		return fmt.Errorf("'%s' is not the host:port that clients dial, such as gateway.example:9093", text)
	}
	host, port, _ := net.SplitHostPort(text)
	switch ip, err := netip.ParseAddr(host); {
	case host == "":
		return fmt.Errorf("'%s' has no host: clients cannot dial it", text)
	case err == nil && ip.IsUnspecified():
		return fmt.Errorf("'%s' means every address of the machine that dials it: write the name or address under which clients reach this one", text)
	case port == "0":
		return fmt.Errorf("'%s' has port 0: write the port that clients dial", text)
	}
	return nil
}
