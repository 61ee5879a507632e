package site

import (
	"io"
	"sync"
)

// maxOutput is how much of the child's output is kept.
const maxOutput = 256 << 10

// tail keeps the start and the end of what is written to it: the start holds the
// addresses, the end the cause of a failure.
type tail struct {
	mu   sync.Mutex
	head []byte
	end  []byte
	copy io.Writer
}

func newTail(w io.Writer) *tail { return &tail{copy: w} }

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.copy != nil {
		// The copy is a convenience: a full disk must not stop the appliance.
		_, _ = t.copy.Write(p)
	}
	n := min(len(p), maxOutput/2-len(t.head))
	t.head = append(t.head, p[:n]...)
	t.end = append(t.end, p[n:]...)
	if over := len(t.end) - maxOutput/2; over > maxOutput/2 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	return len(p), nil
}

func (t *tail) forget() {
	t.mu.Lock()
	t.head, t.end = nil, nil
	t.mu.Unlock()
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.end) > maxOutput/2 {
		return string(t.head) + "\n[…]\n" + string(t.end[len(t.end)-maxOutput/2:])
	}
	return string(t.head) + string(t.end)
}
