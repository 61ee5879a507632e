package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// positionHelp is how a place in a log is written, everywhere in the CLI.
const positionHelp = "start, end, an offset (1000), -N (N records before the end), a time (2026-01-31, 2026-01-31T12:00:00, with Z or +01:00 for another zone than the machine's) or an age (-90m, -2d)"

type positionKind int

const (
	atStart positionKind = iota
	atEnd
	atOffset
	beforeEnd
	atTime
)

// position is a place in each partition of a topic.
type position struct {
	kind positionKind
	n    int64 // the offset, the number before the end, or Unix milliseconds
}

var timeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02"}

func parsePosition(flag, text string, now time.Time) (position, error) {
	switch text {
	case "start", "beginning", "earliest":
		return position{kind: atStart}, nil
	case "end", "latest":
		return position{kind: atEnd}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 0 {
			return position{beforeEnd, -n}, nil
		}
		return position{atOffset, n}, nil
	}
	if age, ok := parseAge(text); ok {
		return position{atTime, now.Add(-age).UnixMilli()}, nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return position{atTime, t.UnixMilli()}, nil
		}
	}
	return position{}, failf(exitUsage, "%s '%s' is no place in a log: give %s", flag, text, positionHelp)
}

const day = 24 * time.Hour

// parseAge reads -90m, and -2d, which Go's durations lack.
func parseAge(text string) (time.Duration, bool) {
	text, isAge := strings.CutPrefix(text, "-")
	if days, isDays := strings.CutSuffix(text, "d"); isAge && isDays {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * day, err == nil
	}
	age, err := time.ParseDuration(text)
	return age, isAge && err == nil && age >= 0
}

// offset is where a consumer begins.
func (p position) offset() kgo.Offset {
	switch p.kind {
	case atStart:
		return kgo.NewOffset().AtStart()
	case beforeEnd:
		return kgo.NewOffset().AtEnd().Relative(-p.n)
	case atOffset:
		return kgo.NewOffset().At(p.n)
	case atTime:
		return kgo.NewOffset().AfterMilli(p.n)
	}
	return kgo.NewOffset().AtEnd()
}

// resolve asks the broker for the offset in each partition. The end is that of what
// is committed, unless uncommitted; offsets beyond the log are brought into it.
func (p position) resolve(s *session, adm *kadm.Client, uncommitted bool, topics ...string) (kadm.ListedOffsets, error) {
	thing := strings.Join(topics, ",")
	ends, list := kadm.ListedOffsets(nil), adm.ListCommittedOffsets
	if uncommitted {
		list = adm.ListEndOffsets
	}
	starts, err := adm.ListStartOffsets(s.ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err == nil {
		if ends, err = list(s.ctx, topics...); err == nil {
			err = ends.Error()
		}
	}
	if err != nil {
		return nil, brokerError("list offsets of", thing, err)
	}
	if p.kind == atTime {
		// Partitions without a record so late are at their end.
		timed, err := adm.ListOffsetsAfterMilli(s.ctx, p.n, topics...)
		return timed, brokerError("list offsets of", thing, err)
	}
	for topic, partitions := range ends {
		for id, end := range partitions {
			start := starts[topic][id].Offset
			end.Offset = p.within(start, end.Offset)
			partitions[id] = end
		}
	}
	return ends, nil
}

func (p position) within(start, end int64) int64 {
	switch p.kind {
	case atStart:
		return start
	case beforeEnd:
		return max(start, end-p.n)
	case atOffset:
		return min(max(start, p.n), end)
	}
	return end
}
