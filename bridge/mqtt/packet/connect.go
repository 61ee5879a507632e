package packet

import (
	"encoding/binary"
	"fmt"
)

// Connect is CONNECT.
type Connect struct {
	Version     Version
	CleanStart  bool // 3.1.1: clean session
	KeepAlive   uint16
	ClientID    []byte
	Props       Properties
	HasWill     bool
	Will        Will
	HasUserName bool
	UserName    []byte
	HasPassword bool
	Password    []byte
}

// Will is the message that the server publishes when the client dies.
type Will struct {
	Topic   []byte
	Payload []byte
	QoS     byte
	Retain  bool
	Props   Properties
}

const (
	flagCleanStart = 0x02
	flagWill       = 0x04
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUserName   = 0x80
)

// Decode fills c from f. When the protocol level is unknown, the error's reason is
// UnsupportedProtocolVersion and c.Version is the level asked for.
func (c *Connect) Decode(f Frame) error {
	*c = Connect{Props: c.Props, Will: Will{Props: c.Will.Props}}
	r := reader{b: f.Body}
	name := r.binary()
	c.Version = Version(r.u8())
	flags := r.u8()
	c.KeepAlive = r.u16()
	switch {
	case r.err != nil:
		return r.err
	case string(name) == "MQIsdp":
		return &Error{Reason: UnsupportedProtocolVersion, Clause: "MQTT-3.1.2-2", Text: "MQTT 3.1 (MQIsdp); the client must speak 3.1.1 or 5"}
	case string(name) != "MQTT":
		return &Error{Reason: UnsupportedProtocolVersion, Clause: "MQTT-3.1.2-1", Text: fmt.Sprintf("protocol name %.16q", name)}
	case c.Version != V311 && c.Version != V5:
		return &Error{Reason: UnsupportedProtocolVersion, Clause: "MQTT-3.1.2-2", Text: fmt.Sprintf("protocol level %d; the client must speak 4 (3.1.1) or 5", c.Version)}
	}
	if err := c.flags(flags); err != nil {
		return err
	}
	if c.Version == V5 {
		c.Props.decode(&r, TypeConnect)
	} else {
		c.Props.Reset()
	}
	c.payload(&r)
	return r.end(TypeConnect)
}

func (c *Connect) flags(flags byte) error {
	c.CleanStart = flags&flagCleanStart != 0
	c.HasWill = flags&flagWill != 0
	c.Will.QoS = flags >> 3 & 3
	c.Will.Retain = flags&flagWillRetain != 0
	c.HasUserName = flags&flagUserName != 0
	c.HasPassword = flags&flagPassword != 0
	switch {
	case flags&1 != 0:
		return malformed("MQTT-3.1.2-3", "reserved connect flag is set")
	case !c.HasWill && c.Will.QoS != 0:
		return malformed("MQTT-3.1.2-11", "will QoS %d without a will", c.Will.QoS)
	case c.Will.QoS == 3:
		return malformed("MQTT-3.1.2-12", "will QoS 3")
	case !c.HasWill && c.Will.Retain:
		return malformed("MQTT-3.1.2-13", "will retain without a will")
	case c.Version == V311 && c.HasPassword && !c.HasUserName:
		return malformed("MQTT-3.1.2-22", "password without user name")
	}
	return nil
}

func (c *Connect) payload(r *reader) {
	c.ClientID = r.str()
	if c.HasWill {
		if c.Version == V5 {
			c.Will.Props.decode(r, 0)
		} else {
			c.Will.Props.Reset()
		}
		c.Will.Topic = r.str()
		c.Will.Payload = r.binary()
		if r.err == nil {
			if err := CheckTopic(c.Will.Topic); err != nil {
				r.fail(err)
			}
		}
	}
	if c.HasUserName {
		c.UserName = r.str()
	}
	if c.HasPassword {
		c.Password = r.binary()
	}
}

// Append encodes c.
func (c *Connect) Append(dst []byte) []byte {
	n := 10 + 2 + len(c.ClientID)
	if c.Version == V5 {
		n += c.Props.encodedLen()
	}
	if c.HasWill {
		n += 4 + len(c.Will.Topic) + len(c.Will.Payload)
		if c.Version == V5 {
			n += c.Will.Props.encodedLen()
		}
	}
	if c.HasUserName {
		n += 2 + len(c.UserName)
	}
	if c.HasPassword {
		n += 2 + len(c.Password)
	}
	dst = appendString(appendFixed(dst, TypeConnect, 0, n), "MQTT")
	dst = append(dst, byte(c.Version), c.flagBits())
	dst = binary.BigEndian.AppendUint16(dst, c.KeepAlive)
	if c.Version == V5 {
		dst = c.Props.append(dst)
	}
	dst = appendString(dst, c.ClientID)
	if c.HasWill {
		if c.Version == V5 {
			dst = c.Will.Props.append(dst)
		}
		dst = appendString(appendString(dst, c.Will.Topic), c.Will.Payload)
	}
	if c.HasUserName {
		dst = appendString(dst, c.UserName)
	}
	if c.HasPassword {
		dst = appendString(dst, c.Password)
	}
	return dst
}

func (c *Connect) flagBits() (flags byte) {
	if c.CleanStart {
		flags |= flagCleanStart
	}
	if c.HasWill {
		flags |= flagWill | c.Will.QoS<<3
		if c.Will.Retain {
			flags |= flagWillRetain
		}
	}
	if c.HasUserName {
		flags |= flagUserName
	}
	if c.HasPassword {
		flags |= flagPassword
	}
	return flags
}

// Connack is CONNACK. Code is a Reason for MQTT 5 and a return code for 3.1.1.
type Connack struct {
	SessionPresent bool
	Code           byte
	Props          Properties
}

// Decode fills c from f.
func (c *Connack) Decode(f Frame, v Version) error {
	r := reader{b: f.Body}
	flags := r.u8()
	c.Code = r.u8()
	c.SessionPresent = flags&1 != 0
	if flags > 1 {
		r.fail(malformed("MQTT-3.2.2-1", "connect acknowledge flags %08b", flags))
	}
	if v == V5 {
		c.Props.decode(&r, TypeConnack)
	} else {
		c.Props.Reset()
	}
	return r.end(TypeConnack)
}

// Append encodes c.
func (c *Connack) Append(dst []byte, v Version) []byte {
	n := 2
	if v == V5 {
		n += c.Props.encodedLen()
	}
	flags := byte(0)
	if c.SessionPresent {
		flags = 1
	}
	dst = append(appendFixed(dst, TypeConnack, 0, n), flags, c.Code)
	if v == V5 {
		dst = c.Props.append(dst)
	}
	return dst
}
