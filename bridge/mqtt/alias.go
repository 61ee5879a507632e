package mqtt

import (
	"fmt"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// aliases is the topic names that this side of a connection has given a number to, as
// far as the client takes any ([MQTT-3.1.2-26], [MQTT-3.1.2-27]): the first ones that
// it is sent. The session's lock guards it.
type aliases struct {
	most int // what the client takes, within the server's own limit
	ids  map[string]uint16
}

// aliasWorth is the length from which a topic name is worth a number: shorter ones
// cost less than the property.
const aliasWorth = 4

// take gives the delivery of a message a number for its topic name. fresh says that
// the client does not know it yet.
func (a *aliases) take(m *message, d *delivery) (fresh bool) {
	if a.most == 0 || len(m.topic) < aliasWorth {
		return false
	}
	id, known := a.ids[string(m.topic)]
	switch {
	case known:
		d.alias, d.known = id, true
		return false
	case len(a.ids) == a.most:
		return false
	case a.ids == nil:
		a.ids = make(map[string]uint16, a.most)
	}
	id = uint16(len(a.ids) + 1)
	a.ids[string(m.topic)] = id
	d.alias = id
	return true
}

// undo takes back what take gave: the client was not sent the message.
func (a *aliases) undo(m *message) { delete(a.ids, string(m.topic)) }

// resolveAlias returns the topic name, which an alias may stand for [MQTT-3.3.2-7].
func (c *conn) resolveAlias(p *packet.Publish) ([]byte, error) {
	alias, ok := p.Props.Uint(packet.TopicAlias)
	if !ok {
		return p.Topic, nil
	}
	if int(alias) > c.srv.opts.TopicAliasMaximum { // [MQTT-3.3.2-9]
		return nil, &packet.Error{Reason: packet.TopicAliasInvalid, Clause: "MQTT-3.3.2-9", Text: fmt.Sprintf("topic alias %d, the maximum is %d", alias, c.srv.opts.TopicAliasMaximum)}
	}
	if c.aliases == nil {
		c.aliases = make([][]byte, c.srv.opts.TopicAliasMaximum+1)
	}
	if len(p.Topic) > 0 { // of one that is too long enough is kept to tell that it is
		c.aliases[alias] = append(c.aliases[alias][:0], p.Topic[:min(len(p.Topic), c.srv.opts.MaxTopicBytes+1)]...)
	} else if len(c.aliases[alias]) == 0 {
		return nil, &packet.Error{Reason: packet.ProtocolError, Clause: "MQTT-3.3.2-7", Text: fmt.Sprintf("topic alias %d is not known", alias)}
	}
	return c.aliases[alias], nil
}
