package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/weirmq/weir/testbed/site"
)

// DeviceKills is what a run of RunDevice found.
type DeviceKills struct {
	Kills, BoxKills int // of the device's process, of the box
	Lives           int // of the device, those that a kill of the box ended among them
	Taken, Begun    int // messages that the client took, that it was about to be given
	Lost, Twice     int // in the log
}

// OK reports whether every message that the client took is once in the log, and none twice.
func (r *DeviceKills) OK() bool { return r.Lost+r.Twice == 0 && r.Taken > 0 }

func (r *DeviceKills) String() string {
	return fmt.Sprintf("%d kills of the device and %d of the box in %d lives: the client took %d of %d messages; in the log %d lost, %d twice",
		r.Kills, r.BoxKills, r.Lives, r.Taken, r.Begun, r.Lost, r.Twice)
}

// boxEvery is how many kills of the device there are for one of the box.
const boxEvery = 5

// RunDevice kills the process of a device that publishes with QoS 2 again and again, and
// the box now and then. device is the command of Device, without a drain or with one. Of
// the options it takes what RunQoS2 takes.
func RunDevice(ctx context.Context, o Options, device func(address, dir string, drain bool) *exec.Cmd) (*DeviceKills, error) {
	set(&o.Config, deviceConfig)
	o = o.withDefaults()
	s, err := site.New(site.Options{Binary: o.Binary, Dir: o.Dir, Config: o.Config, Host: site.LoopbackHost()})
	if err != nil {
		return nil, err
	}
	defer s.Kill()
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	dir := filepath.Clean(o.Dir) + "-device"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	rng, r := rand.New(rand.NewPCG(o.Seed, 4)), &DeviceKills{}
	for r.Kills < o.Cycles {
		cmd := device(s.Addresses().MQTT, dir, false)
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		r.Lives++
		pause(ctx, o.MinUp+time.Duration(rng.Int64N(int64(o.MaxUp-o.MinUp))))
		if rng.IntN(boxEvery) == 0 {
			s.Kill()
			r.BoxKills++
			if err := s.Start(ctx); err != nil {
				return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
			}
		}
		if cmd.Process.Kill() == nil { // else its connection was lost
			r.Kills++
		}
		if _ = cmd.Wait(); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	cmd := device(s.Addresses().MQTT, dir, true)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("chaos: the device cannot end what it began: %w: %s", err, out)
	}
	return r, r.judge(ctx, s, dir)
}

func (r *DeviceKills) judge(ctx context.Context, s *site.Site, dir string) error {
	begun, err := lines(dir, begunFile)
	if err != nil {
		return err
	}
	taken, err := lines(dir, takenFile)
	if err != nil {
		return err
	}
	inLog, err := valuesOf(ctx, s.Addresses().Kafka, mqttTopic)
	if err != nil {
		return err
	}
	r.Begun, r.Taken = len(begun), len(taken)
	for _, n := range taken {
		if inLog[n] == 0 {
			r.Lost++
		}
	}
	for n := range begun {
		if inLog[strconv.Itoa(n)] > 1 {
			r.Twice++
		}
	}
	return nil
}
