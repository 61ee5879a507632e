package mqtt_test

import (
	"net"
	"testing"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// BenchmarkPublish is one client that keeps 200 messages in flight over a pipe, on a
// disk in memory: what the server itself costs for each message.
func BenchmarkPublish(b *testing.B) {
	for _, qos := range []byte{0, 1, 2} {
		b.Run("qos "+string('0'+qos), func(b *testing.B) { benchmarkPublish(b, qos) })
	}
}

func benchmarkPublish(b *testing.B, qos byte) {
	box := newBox(b).start()
	defer box.stop()
	here, there := net.Pipe()
	box.srv.ServeConn(there)
	connect := packet.Connect{Version: v5, ClientID: []byte("c"), CleanStart: true}
	here.Write(connect.Append(nil))
	buf := make([]byte, 1<<16)
	here.Read(buf)
	const window = 200
	var all, release []byte
	for i := range window {
		p := packet.Publish{QoS: qos, Topic: []byte("sensors/a/b"), Payload: make([]byte, 200)}
		if qos > 0 {
			p.PacketID = uint16(i + 1)
		}
		all = p.Append(all, v5)
		release = (&packet.Ack{Type: packet.TypePubrel, PacketID: uint16(i + 1)}).Append(release, v5)
	}
	answers := func(n int) {
		for got := 0; got < n; {
			k, err := here.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			got += k
		}
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(all) / window))
	for done := 0; done < b.N; done += window {
		switch qos {
		case 0:
			here.Write(append(all, packet.AppendPing(nil, packet.TypePingreq)...))
			answers(2)
		case 1:
			go here.Write(all)
			answers(4 * window)
		case 2:
			go here.Write(all)
			answers(4 * window)
			go here.Write(release)
			answers(4 * window)
		}
	}
}
