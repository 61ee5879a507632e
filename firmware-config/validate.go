package firmwareconfig

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Validate checks what no single key can be checked for. Load calls it; call it
// again after changing a Config.
func (c *Config) Validate() error {
	errs := []error{c.checkSite(), c.checkExposure(), c.checkFleet(), c.checkSizes(), c.checkProxies()}
	for i, r := range c.Routes {
		if r.Filter == "" || r.Topic == "" && !r.Drop {
			errs = append(errs, fmt.Errorf("routes[%d] needs both filter (MQTT) and topic (Kafka)", i))
		}
	}
	for i := range c.Topics {
		if c.Topics[i].Name == "" {
			errs = append(errs, fmt.Errorf("topics[%d] has no name", i))
		}
	}
	names := map[string]bool{}
	for i, u := range c.Upstream {
		switch {
		case u.Name == "" || u.URL == "":
			errs = append(errs, fmt.Errorf("upstream[%d] needs both name and url (such as mqtt://10.0.0.5:1883)", i))
		case names[u.Name]:
			errs = append(errs, fmt.Errorf("upstream[%d]: an upstream named '%s' exists already", i, u.Name))
		}
		names[u.Name] = true
	}
	for i, d := range c.Downlink {
		if d.Topic == "" || d.To == "" {
			errs = append(errs, fmt.Errorf("downlink[%d] needs both topic (read from Kafka) and to (published to MQTT)", i))
		}
	}
	return errors.Join(append(errs, c.checkFlows())...)
}

// IsLoopback tells whether only this machine can reach the address. An empty
// host listens on every interface.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// ProxyNetworks is proxy_protocol, an address being a network of one.
func (m *MQTT) ProxyNetworks() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range m.ProxyProtocol {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			ip, aerr := netip.ParseAddr(text)
			if aerr != nil {
				return nil, fmt.Errorf("mqtt.proxy_protocol: '%s' is neither an address nor a network such as 10.1.0.0/16", text)
			}
			network = netip.PrefixFrom(ip, ip.BitLen())
		}
		out = append(out, network.Masked())
	}
	return out, nil
}

func (c *Config) checkProxies() error {
	_, err := c.MQTT.ProxyNetworks()
	return err
}

func (c *Config) checkFleet() error {
	f := &c.Fleet
	if f.Bind == "" {
		if len(f.Join) > 0 {
			return errors.New("fleet.join needs fleet.bind, the address this site gossips on (such as 0.0.0.0:7946)")
		}
		return nil
	}
	if f.Key == "" {
		if !IsLoopback(f.Bind) && !c.InsecureLAN {
			return fmt.Errorf("fleet.bind %s would gossip in clear text: set fleet.key (openssl rand -base64 32), "+
				"or accept it with insecure_lan: true", f.Bind)
		}
		return nil
	}
	key, err := base64.StdEncoding.DecodeString(f.Key)
	if n := len(key); err != nil || n != 16 && n != 24 && n != 32 {
		return errors.New("fleet.key must be 16, 24 or 32 bytes in base64: make one with openssl rand -base64 32")
	}
	return nil
}

// checkSizes keeps the limits of one path in order: what one stage lets in must
// fit through the next.
func (c *Config) checkSizes() error {
	if c.Kafka.MessageMaxBytes > c.Kafka.MaxRequestBytes {
		return fmt.Errorf("kafka.message.max.bytes (%s) is larger than kafka.socket.request.max.bytes (%s): no request could carry such a batch",
			c.Kafka.MessageMaxBytes, c.Kafka.MaxRequestBytes)
	}
	if c.Storage.CommitBytes > c.Storage.WALFileBytes/2 {
		return fmt.Errorf("storage.commit.max.bytes (%s) must be at most half of storage.wal.file.bytes (%s)",
			c.Storage.CommitBytes, c.Storage.WALFileBytes)
	}
	if c.Storage.WALFileBytes%4096 != 0 {
		return fmt.Errorf("storage.wal.file.bytes (%s) must be a multiple of 4KiB", c.Storage.WALFileBytes)
	}
	if c.Kafka.MessageMaxBytes > c.Storage.WALFileBytes/2 {
		return fmt.Errorf("kafka.message.max.bytes (%s) must be at most half of storage.wal.file.bytes (%s): a batch is committed in one file",
			c.Kafka.MessageMaxBytes, c.Storage.WALFileBytes)
	}
	if p := &c.Plugins; p.Memory > p.MaxMemory || p.MaxMemory > p.TotalMemory || p.CallTime > p.MaxCallTime {
		return errors.New("plugins: memory, max_memory and total_memory must not shrink in this order, nor call_time and max_call_time")
	}
	return nil
}

// MaxSiteLen bounds a site's name.
const MaxSiteLen = 64

// checkSite: the name becomes part of topic names at the mirror's target.
func (c *Config) checkSite() error {
	if len(c.Site) > MaxSiteLen || SiteName(c.Site) != c.Site {
		return fmt.Errorf("site '%s' must be 1 to %d letters, digits, '-' or '_'", c.Site, MaxSiteLen)
	}
	return nil
}

// SiteName makes a site's name of a host's: what a site's name may not hold becomes '-'.
func SiteName(host string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, host)
	return name[:min(len(name), MaxSiteLen)]
}

func (c *Config) checkFlows() error {
	var errs []error
	names := map[string]bool{}
	for i, f := range c.Mirror.Flows {
		at := fmt.Sprintf("mirror.flows[%d]", i)
		switch {
		case f.Name == "":
			errs = append(errs, fmt.Errorf("%s has no name", at))
		case names[f.Name]:
			errs = append(errs, fmt.Errorf("%s: a flow named '%s' exists already", at, f.Name))
		}
		names[f.Name] = true
		if len(f.To) == 0 {
			errs = append(errs, fmt.Errorf("%s has no to: give bootstrap addresses of the target, such as core.example:9092", at))
		}
		if len(f.Topics) == 0 {
			errs = append(errs, fmt.Errorf("%s has no topics: name them, or write '*' for all", at))
		}
		if f.Rename != "" && !strings.Contains(f.Rename, "{topic}") {
			errs = append(errs, fmt.Errorf("%s.rename '%s' gives every topic the same name: it must contain {topic}", at, f.Rename))
		}
	}
	return errors.Join(errs...)
}

// Warnings is what an operator should see for as long as it is so.
func (c *Config) Warnings() []string {
	var w []string
	for _, open := range c.Exposed() {
		w = append(w, "insecure_lan: "+open)
	}
	if c.Auth.PlainWithoutTLS {
		w = append(w, "auth.plain_without_tls: passwords are taken over connections that anybody can listen to")
	}
	if c.Fleet.Bind != "" && !IsLoopback(c.Fleet.Bind) && c.Fleet.Key == "" {
		w = append(w, "insecure_lan: the fleet gossips on "+c.Fleet.Bind+" in clear text; set fleet.key")
	}
	return w
}
