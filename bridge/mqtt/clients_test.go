package mqtt_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
)

// patience bounds a wait for something that must happen.
const patience = 20 * time.Second

// listen serves real sockets.
func (b *box) listen() string {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	go b.srv.Serve(l)
	return l.Addr().String()
}

func TestMosquittoClients(t *testing.T) {
	for _, tool := range []string{"mosquitto_pub", "mosquitto_sub"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: %v", tool, err)
		}
	}
	b := newBox(t).start()
	defer b.stop()
	host, port, _ := net.SplitHostPort(b.listen())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, version := range []string{"mqttv311", "5"} {
		t.Run(version, func(t *testing.T) {
			for b.srv.Status().Connections > 0 && ctx.Err() == nil { // of the version before
				time.Sleep(time.Millisecond)
			}
			at := []string{"-h", host, "-p", port, "-V", version}
			sub := exec.CommandContext(ctx, "mosquitto_sub", append(at, "-q", "2", "-t", "m/#", "-C", "4", "-v")...)
			var lines bytes.Buffer
			sub.Stdout = &lines
			if err := sub.Start(); err != nil {
				t.Fatal(err)
			}
			for b.srv.Status().Subscriptions == 0 && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			for i, qos := range []string{"0", "1", "2", "1"} {
				out, err := exec.CommandContext(ctx, "mosquitto_pub", append(at, "-q", qos, "-t", "m/x", "-m", fmt.Sprint("v", i))...).CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			err := sub.Wait()
			got := strings.Fields(lines.String()) // it prints one of QoS 2 only once PUBREL came
			if slices.Sort(got); err != nil || strings.Join(got, " ") != "m/x m/x m/x m/x v0 v1 v2 v3" {
				t.Errorf("got %q, %v", lines.String(), err)
			}
			for b.srv.Status().Subscriptions > 0 && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			out, err := exec.CommandContext(ctx, "mosquitto_pub", append(at, "-q", "1", "-r", "-t", "kept", "-m", "state")...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			out, err = exec.CommandContext(ctx, "mosquitto_sub", append(at, "-t", "kept", "-C", "1", "-v")...).CombinedOutput()
			if err != nil || string(out) != "kept state\n" {
				t.Errorf("retained: %q, %v", out, err)
			}
		})
	}
}

func TestPaho3(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	addr := b.listen()
	const n = 500
	var mu sync.Mutex
	got := map[string]int{}
	all := make(chan struct{})
	connect := func(id string) paho3.Client {
		c := paho3.NewClient(paho3.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetOrderMatters(false))
		if tok := c.Connect(); !tok.WaitTimeout(patience) || tok.Error() != nil {
			t.Fatal(tok.Error())
		}
		return c
	}
	sub, pub := connect("sub"), connect("pub")
	defer sub.Disconnect(0)
	defer pub.Disconnect(0)
	if tok := sub.Subscribe("p/+", 2, func(_ paho3.Client, m paho3.Message) {
		mu.Lock()
		defer mu.Unlock()
		if got[string(m.Payload())]++; len(got) == n {
			close(all)
		}
	}); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	var tokens []paho3.Token
	for i := range n {
		tokens = append(tokens, pub.Publish(fmt.Sprintf("p/%d", i%7), byte(1+i%2), false, fmt.Sprint(i)))
	}
	for _, tok := range tokens {
		if !tok.WaitTimeout(patience) || tok.Error() != nil {
			t.Fatal("no PUBACK", tok.Error())
		}
	}
	select {
	case <-all:
	case <-time.After(patience):
	}
	mu.Lock()
	defer mu.Unlock()
	for i := range n {
		if got[fmt.Sprint(i)] != 1 {
			t.Errorf("message %d came %d times", i, got[fmt.Sprint(i)])
		}
	}
}

func TestPaho5(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	u, _ := url.Parse("mqtt://" + b.listen())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got := make(chan string, 1000)
	c, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{u}, KeepAlive: 20, SessionExpiryInterval: 60,
		ClientConfig: paho.ClientConfig{ClientID: "five", OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(r paho.PublishReceived) (bool, error) {
				got <- r.Packet.Topic + "=" + string(r.Packet.Payload) + " " + r.Packet.Properties.User.Get("unit")
				return true, nil
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AwaitConnection(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "v5/#", QoS: 2}}}); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		r, err := c.Publish(ctx, &paho.Publish{QoS: byte(1 + i/25), Topic: "v5/t", Payload: []byte(fmt.Sprint(i)),
			Properties: &paho.PublishProperties{User: paho.UserProperties{{Key: "unit", Value: "K"}}}})
		if err != nil || r.ReasonCode != 0 {
			t.Fatal(r, err)
		}
	}
	for i := range 50 {
		select {
		case m := <-got:
			if m != fmt.Sprintf("v5/t=%d K", i) {
				t.Errorf("message %d is %s", i, m)
			}
		case <-ctx.Done():
			t.Fatal("no message", i)
		}
	}
	if err := c.Disconnect(ctx); err != nil {
		t.Error(err)
	}
}
