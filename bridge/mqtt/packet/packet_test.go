package packet_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// codec is what all packets have.
type codec struct {
	decode func(f packet.Frame) error
	append func(dst []byte) []byte
	value  any
}

func codecFor(t packet.Type, v packet.Version) codec {
	switch t {
	case packet.TypeConnect:
		p := &packet.Connect{}
		return codec{p.Decode, p.Append, p}
	case packet.TypeConnack:
		p := &packet.Connack{}
		return of(p, p.Decode, p.Append, v)
	case packet.TypePublish:
		p := &packet.Publish{}
		return of(p, p.Decode, p.Append, v)
	case packet.TypePuback, packet.TypePubrec, packet.TypePubrel, packet.TypePubcomp:
		p := &packet.Ack{}
		return of(p, p.Decode, p.Append, v)
	case packet.TypeSubscribe:
		p := &packet.Subscribe{}
		return of(p, p.Decode, p.Append, v)
	case packet.TypeUnsubscribe:
		p := &packet.Unsubscribe{}
		return of(p, p.Decode, p.Append, v)
	case packet.TypeSuback, packet.TypeUnsuback:
		p := &packet.Suback{}
		return of(p, p.Decode, p.Append, v)
	case packet.TypeDisconnect, packet.TypeAuth:
		p := &packet.Disconnect{}
		return of(p, p.Decode, p.Append, v)
	}
	return codec{packet.CheckPing, func(dst []byte) []byte { return packet.AppendPing(dst, t) }, t}
}

func of(p any, decode func(packet.Frame, packet.Version) error, encode func([]byte, packet.Version) []byte, v packet.Version) codec {
	return codec{func(f packet.Frame) error { return decode(f, v) }, func(dst []byte) []byte { return encode(dst, v) }, p}
}

// roundTrip decodes raw; if that works, it encodes and decodes again and compares.
func roundTrip(t *testing.T, raw []byte, v packet.Version) (encoded []byte, err error) {
	f, n, err := packet.Split(raw, len(raw))
	if err != nil || n == 0 || n > len(raw) {
		return nil, errors.Join(err, errors.New("not whole"))
	}
	first := codecFor(f.Type, v)
	if err := first.decode(f); err != nil {
		var pe *packet.Error
		if !errors.As(err, &pe) || !pe.Reason.Failed() {
			t.Fatalf("error without a reason code: %v", err)
		}
		return nil, err
	}
	encoded = first.append(nil)
	g, n, err := packet.Split(encoded, len(encoded))
	if err != nil || n != len(encoded) {
		t.Fatalf("%x encodes to %x, which splits to %d bytes, %v", raw, encoded, n, err)
	}
	second := codecFor(g.Type, v)
	if err := second.decode(g); err != nil {
		t.Fatalf("%x encodes to %x: %v", raw, encoded, err)
	}
	if a, b := dump(first.value), dump(second.value); a != b {
		t.Fatalf("%x decodes to\n%s\nand again to\n%s", raw, a, b)
	}
	return encoded, nil
}

func dump(v any) string {
	if t, ok := v.(packet.Type); ok {
		return t.String()
	}
	return fmt.Sprintf("%+q", fmt.Sprintf("%+v", reflect.ValueOf(v).Elem()))
}

func captured(t testing.TB) (out []struct {
	name string
	raw  []byte
	v    packet.Version
}) {
	text, err := os.ReadFile("testdata/captured.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var client, typ, digits string
		if n, _ := fmt.Sscan(line, &client, &typ, &digits); n != 3 || client == "#" {
			continue
		}
		raw, err := hex.DecodeString(digits)
		if err != nil {
			continue // the heading
		}
		v := packet.V311
		if strings.HasSuffix(client, "-5") {
			v = packet.V5
		}
		out = append(out, struct {
			name string
			raw  []byte
			v    packet.Version
		}{client + " " + typ, raw, v})
	}
	return out
}

// What real clients send is understood and, but for the order of properties and
// reason codes that need not be said, encoded to the same bytes.
func TestCapturedFromClients(t *testing.T) {
	all := captured(t)
	if len(all) < 20 {
		t.Fatalf("%d packets captured", len(all))
	}
	for _, c := range all {
		encoded, err := roundTrip(t, c.raw, c.v)
		if err != nil {
			t.Errorf("%s %x: %v", c.name, c.raw, err)
			continue
		}
		shorter := strings.HasPrefix(c.name, "paho-5 ") && len(c.raw) > len(encoded)
		if sorted(encoded) != sorted(c.raw) && !shorter {
			t.Errorf("%s: %x became %x", c.name, c.raw, encoded)
		}
	}
}

func sorted(b []byte) string {
	var n [256]int
	for _, c := range b {
		n[c]++
	}
	return fmt.Sprint(n)
}

// Packets that break one rule each, with the clause that says so.
func TestRules(t *testing.T) {
	connect := func(body string) string { return "\x10" + string(rune(len(body))) + body }
	for _, c := range []struct {
		raw, clause string
		v           packet.Version
	}{
		{"\x00\x00", "reserved", 4},
		{"\x80\x02\x00\x01", "MQTT-2.1.3-1", 4},
		{"\xc1\x00", "MQTT-2.1.3-1", 4},
		{"\xc0\x80\x00", "MQTT-1.5.5-1", 5},
		{"\xc0\xff\xff\xff\xff\x01", "MQTT-1.5.5-1", 5},
		{"\xc0\x01\x00", "after the end", 4},
		{connect("\x00\x04MQTX\x04\x02\x00\x00\x00\x00"), "MQTT-3.1.2-1", 4},
		{connect("\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00"), "MQTT-3.1.2-2", 4},
		{connect("\x00\x04MQTT\x06\x02\x00\x00\x00\x00"), "MQTT-3.1.2-2", 4},
		{connect("\x00\x04MQTT\x04\x03\x00\x00\x00\x00"), "MQTT-3.1.2-3", 4},
		{connect("\x00\x04MQTT\x04\x0a\x00\x00\x00\x00"), "MQTT-3.1.2-11", 4},
		{connect("\x00\x04MQTT\x04\x1e\x00\x00\x00\x00"), "MQTT-3.1.2-12", 4},
		{connect("\x00\x04MQTT\x04\x22\x00\x00\x00\x00"), "MQTT-3.1.2-13", 4},
		{connect("\x00\x04MQTT\x04\x42\x00\x00\x00\x00\x00\x00"), "MQTT-3.1.2-22", 4},
		{connect("\x00\x04MQTT\x04\x02\x00\x00\x00\x02\xff\xfe"), "MQTT-1.5.4-1", 4},
		{connect("\x00\x04MQTT\x04\x02\x00\x00\x00\x02a\x00"), "MQTT-1.5.4-2", 4},
		{connect("\x00\x04MQTT\x04\x06\x00\x00\x00\x00\x00\x03a/#\x00\x00"), "MQTT-3.3.2-2", 4},
		{connect("\x00\x04MQTT\x05\x02\x00\x00\x03\x21\x00\x00\x00\x00"), "is 0", 5},
		{connect("\x00\x04MQTT\x05\x02\x00\x00\x02\x01\x00\x00\x00"), "does not belong in CONNECT", 5},
		{connect("\x00\x04MQTT\x05\x02\x00\x00\x04\x17\x00\x17\x00\x00\x00"), "twice", 5},
		{connect("\x00\x04MQTT\x04\x02\x00\x00\x00\x05abc"), "cut short", 4},
		{"\x36\x05\x00\x01a\x00\x01", "MQTT-3.3.1-4", 4},
		{"\x38\x03\x00\x01a", "MQTT-3.3.1-2", 4},
		{"\x32\x05\x00\x01a\x00\x00", "MQTT-2.2.1-3", 4},
		{"\x30\x02\x00\x00", "MQTT-4.7.3-1", 4},
		{"\x30\x03\x00\x01+", "MQTT-3.3.2-2", 4},
		{"\x30\x07\x00\x01a\x03\x23\x00\x00", "MQTT-3.3.2-8", 5},
		{"\x30\x08\x00\x01a\x04\x08\x00\x01#", "MQTT-3.3.2-14", 5},
		{"\x40\x03\x00\x01\x01", "after the end", 4},
		{"\x40\x03\x00\x01\x01", "MQTT-3.4.2-1", 5},
		{"\x82\x02\x00\x01", "MQTT-3.8.3-2", 4},
		{"\x82\x06\x00\x01\x00\x01a\x03", "MQTT-3.8.3-5", 4},
		{"\x82\x06\x00\x01\x00\x01a\x04", "MQTT-3.8.3-5", 4},
		{"\x82\x07\x00\x01\x00\x00\x01a\x40", "MQTT-3.8.3-5", 5},
		{"\x82\x07\x00\x01\x00\x00\x01a\x30", "MQTT-3.8.3-5", 5},
		{"\xa2\x02\x00\x01", "MQTT-3.10.3-2", 4},
		{"\xf0\x00", "AUTH", 4},
	} {
		_, err := roundTrip(t, []byte(c.raw), c.v)
		if err == nil || !strings.Contains(err.Error(), c.clause) {
			t.Errorf("%q: got %v, want %s", c.raw, err, c.clause)
		}
	}
}

// A length is refused before anything is allocated for it, whatever it claims.
func TestSplitLimits(t *testing.T) {
	for _, raw := range []string{"\x10\xff\xff\xff\x7f", "\x30\x81\x08", "\x30\x80\x10abc"} {
		var err error
		allocs := testing.AllocsPerRun(100, func() { _, _, err = packet.Split([]byte(raw), 1024) })
		var pe *packet.Error
		if !errors.As(err, &pe) || pe.Reason != packet.PacketTooLarge || allocs > 6 {
			t.Errorf("%q: %v, %v allocations", raw, err, allocs)
		}
	}
	if _, n, err := packet.Split([]byte("\x30\x80\x04abc"), 1024); n != 515 || err != nil {
		t.Errorf("part of a packet: %d bytes, %v", n, err)
	}
	for i := range 3 {
		if _, n, err := packet.Split([]byte("\x30\x80\x04")[:i], 1024); n != 0 || err != nil {
			t.Errorf("%d bytes: n %d, %v", i, n, err)
		}
	}
}

func TestPublishDecodesWithoutAllocation(t *testing.T) {
	p := packet.Publish{QoS: 1, PacketID: 9, Topic: []byte("sensors/north/d1/temperature"), Payload: bytes.Repeat([]byte("x"), 200)}
	p.Props.SetBytes(packet.ContentType, []byte("application/json"))
	p.Props.User = []packet.UserProperty{{Name: []byte("unit"), Value: []byte("K")}}
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		raw := p.Append(nil, v)
		if len(raw) != p.EncodedLen(v) {
			t.Errorf("EncodedLen is %d, there are %d bytes", p.EncodedLen(v), len(raw))
		}
		var q packet.Publish
		if n := testing.AllocsPerRun(100, func() {
			f, _, err := packet.Split(raw, 1<<20)
			if err == nil {
				err = q.Decode(f, v)
			}
			if err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("version %d: %v allocations for one PUBLISH", v, n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range captured(f) {
		f.Add(c.raw, c.v == packet.V5)
	}
	f.Add([]byte("\x20\x0a\x00\x00\x07\x21\x00\x10\x24\x01\x28\x01"), true)
	f.Add([]byte("\x62\x02\x00\x01"), false)
	f.Add([]byte("\xf0\x08\x18\x06\x15\x00\x03abc"), true)
	f.Fuzz(func(t *testing.T, raw []byte, five bool) {
		v := packet.V311
		if five {
			v = packet.V5
		}
		roundTrip(t, raw, v)
	})
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		// the standard's own examples (4.7.1)
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"#", "a/b", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"#", "$SYS/x", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/x", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"ACCOUNTS", "Accounts", false},
		{"a", "a/", false},
		{"a/", "a", false},
		{"a//b", "a//b", true},
		{"a/+/b", "a//b", true},
		{"a/b", "a/bc", false},
		{"a/bc", "a/b", false},
		{"+/#", "a", true},
		{"+/#", "/", true},
		{"a/+/#", "a", false},
	} {
		if got := packet.Match(c.filter, []byte(c.topic)); got != c.want {
			t.Errorf("%s against %s: %v", c.filter, c.topic, got)
		}
		if err := packet.CheckFilter(c.filter); err != nil {
			t.Error(err)
		}
	}
	for _, f := range []string{"", "a/#/b", "a#", "#a", "a+", "+a/b", "a/+b", "a\x00"} {
		if packet.CheckFilter(f) == nil {
			t.Errorf("filter %q is accepted", f)
		}
	}
}
