package quota

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strings"
)

// Name is one name of an entity: not given, the default of all that have no quota of
// their own, or one by name.
type Name struct {
	Given   bool
	Default bool
	Value   string
}

// Named is a name, DefaultName that of all others.
func Named(s string) Name { return Name{Given: true, Value: s} }

// DefaultName stands for every name that has no quota of its own.
var DefaultName = Name{Given: true, Default: true}

// Entity is whom a quota is for: a user, a client id, both, or an ip.
type Entity struct{ User, ClientID, IP Name }

// String is "user=NAME client-id=<default>" and the like.
func (e Entity) String() (s string) {
	add := func(what string, n Name) {
		switch {
		case n.Default:
			s += " " + what + "=<default>"
		case n.Given:
			s += " " + what + "=" + n.Value
		}
	}
	add("user", e.User)
	add("client-id", e.ClientID)
	add("ip", e.IP)
	return strings.TrimPrefix(s, " ")
}

func (e Entity) check(changes []Change) error {
	switch {
	case e.IP.Given == (e.User.Given || e.ClientID.Given):
		return fmt.Errorf("%w: an entity is an ip, or a user, a client-id or both", ErrInvalid)
	case len(e.User.Value) > MaxNameBytes, len(e.ClientID.Value) > MaxNameBytes:
		return fmt.Errorf("%w: names have at most %d bytes", ErrInvalid, MaxNameBytes)
	}
	if _, err := netip.ParseAddr(e.IP.Value); e.IP.Given && !e.IP.Default && err != nil {
		return fmt.Errorf("%w: %q is no ip", ErrInvalid, e.IP.Value)
	}
	for _, c := range changes {
		switch {
		case (c.Kind == Connections) != e.IP.Given:
			return fmt.Errorf("%w: %s is for an ip, all others are for users and client ids", ErrInvalid, Connections)
		case !c.Remove && (math.IsNaN(c.Value) || math.IsInf(c.Value, 0) || c.Value <= 0):
			return fmt.Errorf("%w: %s is %v, it must be greater than 0", ErrInvalid, c.Kind, c.Value)
		}
	}
	return nil
}

// KindOf finds a kind by Kafka's key.
func KindOf(key string) (Kind, error) {
	for k, name := range keys {
		if name == key {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("%w: there is no quota %q here; there are %v", ErrInvalid, key, keys)
}

func (n Name) compare(o Name) int {
	rank := func(n Name) int {
		switch {
		case !n.Given:
			return 0
		case n.Default:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(n), rank(o)), cmp.Compare(n.Value, o.Value))
}

func (e Entity) compare(o Entity) int {
	return cmp.Or(e.IP.compare(o.IP), e.User.compare(o.User), e.ClientID.compare(o.ClientID))
}

// key is the entity as it is stored: JSON, with null for a default.
func (e Entity) key() string {
	parts := map[string]*string{}
	for name, n := range map[string]Name{"user": e.User, "client-id": e.ClientID, "ip": e.IP} {
		switch {
		case n.Default:
			parts[name] = nil
		case n.Given:
			parts[name] = &n.Value
		}
	}
	b, _ := json.Marshal(parts) // strings always are
	return string(b)
}

func encode(vs Values) []byte {
	named := map[string]float64{}
	for kind, v := range vs {
		named[kind.String()] = v
	}
	b, _ := json.Marshal(named) // check lets finite numbers through alone
	return b
}

func decode(key string, value []byte) (e Entity, vs Values, err error) {
	var parts map[string]*string
	var named map[string]float64
	if err = json.Unmarshal([]byte(key), &parts); err == nil {
		err = json.Unmarshal(value, &named)
	}
	if err != nil {
		return e, nil, fmt.Errorf("quotas: stored quota of %s: %w", key, err)
	}
	for name, v := range parts {
		n := DefaultName
		if v != nil {
			n = Named(*v)
		}
		switch name {
		case "user":
			e.User = n
		case "client-id":
			e.ClientID = n
		case "ip":
			e.IP = n
		}
	}
	vs = Values{}
	for name, v := range named {
		kind, err := KindOf(name)
		if err != nil {
			return e, nil, fmt.Errorf("quotas: stored quota of %s: %w", key, err)
		}
		vs[kind] = v
	}
	return e, vs, nil
}
