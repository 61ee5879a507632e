package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"
	"github.com/eclipse/paho.golang/paho/store/file"
)

// A device is a process of its own that publishes with QoS 2 by somebody else's client,
// which keeps in files what is not answered yet. It is killed as the box is.

const deviceTopic = "chaos/device"

// deviceConfig bounds the messages that a device has under way.
const deviceConfig = "mqtt: {receive_maximum: 20}\n"

// The files of a device's folder, beside those of its client: a line for each message
// that is about to be given to the client, and for each that the client has taken.
const (
	begunFile = "begun"
	takenFile = "taken"
)

// Device publishes numbers, from the one on that its folder says, until it is killed, or
// its connection is lost. With drain it only brings to an end what was begun.
func Device(ctx context.Context, address, dir string, drain bool) error {
	begun, err := appendTo(dir, begunFile)
	if err != nil {
		return err
	}
	taken, err := appendTo(dir, takenFile)
	if err != nil {
		return err
	}
	numbers, err := lines(dir, begunFile)
	if err != nil {
		return err
	}
	mine, err := file.New(dir, "sent-", ".packet")
	if err != nil {
		return err
	}
	theirs, err := file.New(dir, "received-", ".packet")
	if err != nil {
		return err
	}
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c := paho.NewClient(paho.ClientConfig{
		Conn: nc, Session: state.New(mine, theirs), PacketTimeout: time.Minute,
		OnClientError:      func(err error) { cancel(err) },
		OnServerDisconnect: func(d *paho.Disconnect) { cancel(fmt.Errorf("DISCONNECT %#x", d.ReasonCode)) },
	})
	expiry := uint32(3600)
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: "chaos-device", KeepAlive: 30, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}}); err != nil {
		return err
	}
	for n := len(numbers); !drain; n++ {
		if _, err := fmt.Fprintln(begun, n); err != nil {
			return err
		}
		m := &paho.Publish{QoS: 2, Topic: deviceTopic, Payload: strconv.AppendInt(nil, int64(n), 10)}
		if _, err := c.PublishWithOptions(ctx, m, paho.PublishOptions{Method: paho.PublishMethod_AsyncSend}); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(taken, n); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		if left, err := filepath.Glob(filepath.Join(dir, "sent-*.packet")); err != nil || len(left) == 0 {
			return errors.Join(err, nc.Close())
		}
		pause(ctx, time.Millisecond)
	}
	return context.Cause(ctx)
}

func appendTo(dir, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

func lines(dir, name string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(string(b)), err
}
