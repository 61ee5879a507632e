package plugins

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Limits on what plugins say.
const (
	maxLineBytes   = 1 << 10
	maxOutputBytes = 16 << 10 // of one write to standard output
	maxLogLines    = 200      // kept for each plugin
	maxLinesPerSec = 20       // of each plugin, passed on to the host's log
)

// LogLine is a line that a plugin wrote.
type LogLine struct {
	Time  time.Time  `json:"time"`
	Level slog.Level `json:"level"`
	Text  string     `json:"text"`
}

// logRing is the last lines of one plugin.
type logRing struct {
	logger *slog.Logger

	mu      sync.Mutex // guards what follows
	lines   []LogLine
	next    int
	second  int64
	passed  int
	dropped int
}

func newLogRing(l *slog.Logger, plugin string) *logRing {
	return &logRing{logger: l.With("plugin", plugin)}
}

func (r *logRing) add(level slog.Level, text []byte) {
	line := LogLine{time.Now(), level, strings.ToValidUTF8(string(text[:min(len(text), maxLineBytes)]), "\uFFFD")}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) < maxLogLines {
		r.lines = append(r.lines, line)
	} else {
		r.lines[r.next] = line
		r.next = (r.next + 1) % maxLogLines
	}
	if s := line.Time.Unix(); s != r.second {
		if r.dropped > 0 {
			r.logger.Warn("plugin wrote more lines than are passed on", "dropped", r.dropped)
		}
		r.second, r.passed, r.dropped = s, 0, 0
	}
	if r.passed++; r.passed > maxLinesPerSec {
		r.dropped++
		return
	}
	r.logger.Log(context.Background(), level, line.Text)
}

// last returns the last n lines, the oldest first.
func (r *logRing) last(n int) []LogLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := append(append([]LogLine{}, r.lines[r.next:]...), r.lines[:r.next]...)
	return all[max(0, len(all)-n):]
}

// lineBuffer makes lines of what a guest writes.
type lineBuffer struct{ rest []byte }

func (b *lineBuffer) write(r *logRing, level slog.Level, text []byte) {
	for len(text) > 0 {
		line, rest, ended := bytes.Cut(text, []byte{'\n'})
		b.rest = append(b.rest, line[:min(len(line), maxLineBytes-len(b.rest))]...)
		if text = rest; !ended {
			return
		}
		if len(b.rest) > 0 {
			r.add(level, b.rest)
		}
		b.rest = b.rest[:0]
	}
}

// flush makes a line of what has no end.
func (b *lineBuffer) flush(r *logRing) {
	if len(b.rest) > 0 {
		r.add(slog.LevelWarn, b.rest)
		b.rest = b.rest[:0]
	}
}
