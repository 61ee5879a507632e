package kafka_test

import (
	"io"
	"net"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
)

// A gateway with two networks, one of them behind a NAT: who comes in by a listener is
// told that listener's address, by every answer that has one.
func TestAdvertisedByListener(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{})
	inside, outside := listenTCP(t), listenTCP(t)
	forwarded := forward(t, outside.Addr().String())
	go func() { _ = s.ServeSecure(inside, kafka.Security{Protocol: kafka.Plaintext}) }()
	go func() {
		_ = s.ServeSecure(outside, kafka.Security{Protocol: kafka.Plaintext, Advertised: forwarded})
	}()
	for dialled, want := range map[string]string{inside.Addr().String(): inside.Addr().String(), outside.Addr().String(): forwarded} {
		w := dial(t, dialled)
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKey = "g"
		b, c := metadataOf(w, 9, false).Brokers[0], ask[*kmsg.FindCoordinatorResponse](w, 0, find)
		d := ask[*kmsg.DescribeClusterResponse](w, 0, kmsg.NewPtrDescribeClusterRequest()).Brokers[0]
		for what, got := range map[string]string{"Metadata": hostPort(b.Host, b.Port), "FindCoordinator": hostPort(c.Host, c.Port), "DescribeCluster": hostPort(d.Host, d.Port)} {
			if got != want {
				t.Errorf("by %s: %s says %s, want %s", dialled, what, got, want)
			}
		}
	}
	// A real client by the forwarded port comes back by it.
	cl := newClient(t, forwarded, kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("t"))
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("x")).FirstErr(); err != nil {
		t.Error(err)
	}
	all, err := kadm.NewClient(cl).ListBrokers(t.Context())
	if err != nil || len(all) != 1 || hostPort(all[0].Host, all[0].Port) != forwarded {
		t.Errorf("the client knows of %v, %v", all, err)
	}
	if err := s.ServeSecure(listenTCP(t), kafka.Security{Protocol: kafka.Plaintext, Advertised: "nowhere"}); err == nil {
		t.Error("a listener advertises an address that nobody can dial")
	}
}

func hostPort(host string, port int32) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// forward is a port forwarding to address, as a router has.
func forward(t *testing.T, address string) string {
	l := listenTCP(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", address)
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					defer pair[0].Close()
					_, _ = io.Copy(pair[0], pair[1])
				}()
			}
		}
	}()
	return l.Addr().String()
}
