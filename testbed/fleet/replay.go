package fleet

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"time"
)

// maxRows bounds a recording; at 32 bytes a row that is 32 MB.
const maxRows = 1_000_000

// Recording is a series of real readings, in order of time, to be replayed.
type Recording struct{ rows []Reading }

// Len is the number of readings.
func (r *Recording) Len() int { return len(r.rows) }

// Span is the time from the first to the last reading.
func (r *Recording) Span() time.Duration { return r.rows[len(r.rows)-1].At.Sub(r.rows[0].At) }

// LoadRecording reads a CSV file with the columns date (RFC 3339, zone optional),
// pressure (hPa), temperature (°C) and wind (m/s).
func LoadRecording(path string) (*Recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("fleet: recording: %w", err)
	}
	defer f.Close()
	r, err := ReadRecording(f)
	if err != nil {
		return nil, fmt.Errorf("fleet: recording %s: %w", path, err)
	}
	return r, nil
}

// ReadRecording is LoadRecording on an open file.
func ReadRecording(src io.Reader) (*Recording, error) {
	rd := csv.NewReader(src)
	rd.ReuseRecord = true
	header, err := rd.Read()
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	var at [4]int
	for i, name := range [...]string{"date", "pressure", "temperature", "wind"} {
		if at[i] = index(header, name); at[i] < 0 {
			return nil, fmt.Errorf("no column %q in the header: there must be date, pressure, temperature, wind", name)
		}
	}
	var rec Recording
	for {
		row, err := rd.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(rec.rows) == maxRows {
			return nil, fmt.Errorf("more than %d rows", maxRows)
		}
		reading, err := parseRow(row, at)
		if err != nil {
			line, _ := rd.FieldPos(0)
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		rec.rows = append(rec.rows, reading)
	}
	if len(rec.rows) < 2 {
		return nil, errors.New("fewer than two rows")
	}
	sort.SliceStable(rec.rows, func(i, j int) bool { return rec.rows[i].At.Before(rec.rows[j].At) })
	if rec.Span() <= 0 {
		return nil, errors.New("all rows have the same date")
	}
	return &rec, nil
}

func index(names []string, name string) int {
	for i, n := range names {
		if n == name {
			return i
		}
	}
	return -1
}

func parseRow(row []string, at [4]int) (Reading, error) {
	when, err := time.Parse(time.RFC3339, row[at[0]])
	if err != nil {
		if when, err = time.Parse("2006-01-02T15:04:05", row[at[0]]); err != nil {
			return Reading{}, fmt.Errorf("date %q is not like 2010-01-01T01:00:00", row[at[0]])
		}
	}
	var v [3]float64
	for i := range v {
		if v[i], err = strconv.ParseFloat(row[at[i+1]], 64); err != nil {
			return Reading{}, fmt.Errorf("%q is not a number", row[at[i+1]])
		}
	}
	return Reading{At: when, PressureInHg: v[0] * 0.0295299830714, TempF: v[1]*9/5 + 32, WindMph: v[2] * 2.2369362920544}, nil
}

// player reads a recording from a place of its own, in scaled time and without
// end: after the last row comes the first.
type player struct {
	rec     *Recording
	scale   float64
	offset  time.Duration // into the recording, at the first reading
	started time.Time
	row     int // the row last used, where the next search starts
}

func (r *Recording) play(rng *rand.Rand, scale float64) *player {
	return &player{rec: r, scale: scale, offset: time.Duration(rng.Int64N(int64(r.Span())))}
}

// next interpolates between the two rows around the recorded time.
func (p *player) next(now time.Time) Reading {
	if p.started.IsZero() {
		p.started = now
	}
	rows, span := p.rec.rows, p.rec.Span()
	passed := time.Duration(float64(now.Sub(p.started)) * p.scale)
	at := rows[0].At.Add((p.offset + passed) % span)
	if at.Before(rows[p.row].At) {
		p.row = 0
	}
	for p.row+2 < len(rows) && !at.Before(rows[p.row+1].At) {
		p.row++
	}
	a, b := &rows[p.row], &rows[p.row+1]
	part := 0.0
	if gap := b.At.Sub(a.At); gap > 0 {
		part = float64(at.Sub(a.At)) / float64(gap)
	}
	mix := func(x, y float64) float64 { return x + part*(y-x) }
	return Reading{At: now, TempF: mix(a.TempF, b.TempF), PressureInHg: mix(a.PressureInHg, b.PressureInHg), WindMph: mix(a.WindMph, b.WindMph)}
}
