//go:build wasip1

// Command telemetry is a plugin: it turns what devices say of the weather, in
// JSON and in the units of their makers, into checked records in SI units, keyed
// by the device.
//
//	{"device":"pump-017","seq":123,"ts":1763800000000,"temp_f":71.3,"pressure_inhg":29.92,"wind_mph":5.1}
//	{"device":"pump-017","seq":123,"ts":1763800000000,"temp_c":21.83,"pressure_hpa":1013.21,"wind_mps":2.28}
//
// device is required, everything else may be left out; other members are
// dropped. What is not JSON, or out of range, is rejected.
package main

import (
	"errors"
	"fmt"

	"github.com/weirmq/weir/plugins/sdk"
)

// maxDeviceBytes bounds a device's name.
const maxDeviceBytes = 128

// quantity is something measured: its member in the input, what it may be, and
// its member and unit in the output.
type quantity struct {
	in, out  string
	min, max float64 // beyond what the instruments measure and the weather does
	convert  func(float64) float64
}

var quantities = [...]quantity{
	{"temp_f", `,"temp_c":`, -130, 160, func(f float64) float64 { return (f - 32) / 1.8 }},
	{"pressure_inhg", `,"pressure_hpa":`, 20, 35, func(inHg float64) float64 { return inHg * 33.86388666666667 }},
	{"wind_mph", `,"wind_mps":`, 0, 300, func(mph float64) float64 { return mph * 0.44704 }},
}

func init() { sdk.Transform(convert) }

func main() {}

// The memory of one record, used for the next one again.
var key, value []byte

func convert(in *sdk.Record, out *sdk.Writer) error {
	r, err := parse(in.Value)
	if err != nil {
		return err
	}
	value = append(value[:0], `{"device":`...)
	value = sdk.AppendString(value, key)
	value = appendRaw(value, `,"seq":`, r.seq)
	value = appendRaw(value, `,"ts":`, r.ts)
	for i := range quantities {
		if r.has[i] {
			value = append(value, quantities[i].out...)
			value = sdk.AppendFixed(value, quantities[i].convert(r.measured[i]), 2)
		}
	}
	value = append(value, '}')
	out.Write(&sdk.Record{Key: key, Value: value, Headers: in.Headers, Timestamp: in.Timestamp})
	return nil
}

// reading is one reading as it came.
type reading struct {
	seq, ts  []byte // as written
	measured [len(quantities)]float64
	has      [len(quantities)]bool
}

var errDevice = errors.New("device: missing")

// parse checks a reading; its device is in key.
func parse(text []byte) (r reading, err error) {
	key = key[:0]
	s := sdk.ScanObject(text)
	for s.Next() {
		switch name := string(s.Name()); name {
		case "device":
			if key, err = s.AppendText(key[:0]); err != nil || len(key) > maxDeviceBytes {
				return r, fmt.Errorf("device: want a string of 1 to %d bytes", maxDeviceBytes)
			}
		case "seq", "ts":
			n, err := s.Int()
			if err != nil || n < 0 {
				return r, fmt.Errorf("%s: %.40q is not a whole number from 0", name, s.Value())
			}
			if name == "seq" {
				r.seq = s.Value()
			} else {
				r.ts = s.Value()
			}
		default:
			if err := r.measure(name, &s); err != nil {
				return r, err
			}
		}
	}
	if s.Err() == nil && len(key) == 0 {
		return r, errDevice
	}
	return r, s.Err()
}

func (r *reading) measure(name string, s *sdk.Scanner) error {
	for i := range quantities {
		q := &quantities[i]
		if name != q.in {
			continue
		}
		v, err := s.Float()
		if err != nil {
			return fmt.Errorf("%s: %.40q is not a number", name, s.Value())
		}
		if v < q.min || v > q.max {
			return fmt.Errorf("%s: %v is not from %v to %v", name, v, q.min, q.max)
		}
		r.measured[i], r.has[i] = v, true
	}
	return nil
}

func appendRaw(dst []byte, name string, text []byte) []byte {
	if text == nil {
		return dst
	}
	return append(append(dst, name...), text...)
}
