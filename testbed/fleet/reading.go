package fleet

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// Reading is what a device measures, in the units that it sends.
type Reading struct {
	At           time.Time
	TempF        float64
	PressureInHg float64
	WindMph      float64
}

// source yields a device's readings one after another.
type source interface{ next(now time.Time) Reading }

// payload encodes the reading as devices of this fleet send it, for example
//
//	{"device":"dev-017","seq":123,"ts":1767225600000,"temp_f":71.3,"pressure_inhg":29.92,"wind_mph":5.1}
func (r Reading) payload(device string, seq int64) []byte {
	b := make([]byte, 0, 112+len(device))
	b = append(b, `{"device":"`...)
	b = append(b, device...)
	b = append(b, `","seq":`...)
	b = strconv.AppendInt(b, seq, 10)
	b = append(b, `,"ts":`...)
	b = strconv.AppendInt(b, r.At.UnixMilli(), 10)
	b = append(b, `,"temp_f":`...)
	b = strconv.AppendFloat(b, r.TempF, 'f', 1, 64)
	b = append(b, `,"pressure_inhg":`...)
	b = strconv.AppendFloat(b, r.PressureInHg, 'f', 2, 64)
	b = append(b, `,"wind_mph":`...)
	b = strconv.AppendFloat(b, r.WindMph, 'f', 1, 64)
	return append(b, '}')
}

// spoil makes a payload invalid in one of the ways that broken sensors do; device
// and seq stay readable so that a dead letter can be counted.
func spoil(payload []byte, seq int64) []byte {
	at := bytes.Index(payload, []byte(`"temp_f":`)) + len(`"temp_f":`)
	end := at + bytes.IndexByte(payload[at:], ',')
	var value string
	switch seq % 3 {
	case 0:
		return payload[:len(payload)-7] // cut short
	case 1:
		value = "9999.0" // outside what exists on earth
	case 2:
		value = `"n/a"` // not a number
	}
	return append(append(append([]byte{}, payload[:at]...), value...), payload[end:]...)
}

// walk is a slow random walk that is drawn back to the climate of its place, so
// that series stay plausible however long they run.
type walk struct {
	rng                              *rand.Rand
	temp, pressure, wind             float64
	tempMean, pressureMean, windMean float64
}

func newWalk(rng *rand.Rand) *walk {
	w := &walk{rng: rng, tempMean: 55 + 12*rng.NormFloat64(), windMean: 3 + 6*rng.Float64(), pressureMean: 29.92 + 0.1*rng.NormFloat64()}
	w.temp, w.wind, w.pressure = w.tempMean, w.windMean, w.pressureMean
	return w
}

func (w *walk) next(now time.Time) Reading {
	w.temp += 0.01*(w.tempMean-w.temp) + 0.15*w.rng.NormFloat64()
	w.pressure += 0.01*(w.pressureMean-w.pressure) + 0.004*w.rng.NormFloat64()
	w.wind = math.Abs(w.wind + 0.05*(w.windMean-w.wind) + 0.3*w.rng.NormFloat64())
	return Reading{At: now, TempF: w.temp, PressureInHg: w.pressure, WindMph: w.wind}
}
