package plugins

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/plugins/transform"
)

// runner is the Transformer of one plugin and partition: an instance, started
// when there is work, discarded when it fails.
type runner struct {
	program *program
	budget  *budget
	usage   *usage

	mu    sync.Mutex // held during calls; guards guest
	guest *guest
}

// usage is what a plugin's instances have used.
type usage struct {
	starts    atomic.Int64
	calls     atomic.Int64
	callNanos atomic.Int64
}

// Transform implements transform.Transformer.
func (r *runner) Transform(ctx context.Context, in *transform.Input, out *transform.Output) error {
	r.mu.Lock()
	err := r.transform(ctx, in, out)
	r.mu.Unlock()
	r.budget.idle()
	return err
}

func (r *runner) transform(ctx context.Context, in *transform.Input, out *transform.Output) error {
	if r.guest == nil {
		if err := r.start(ctx); err != nil {
			return fmt.Errorf("%w: %w", transform.ErrUnavailable, err)
		}
	}
	start := time.Now()
	err := r.guest.transform(in, out)
	r.usage.calls.Add(1)
	r.usage.callNanos.Add(int64(time.Since(start)))
	if err != nil && !errors.Is(err, transform.ErrOutputFull) {
		r.budget.release(r)
	}
	return err
}

func (r *runner) start(ctx context.Context) error {
	if err := r.budget.acquire(ctx, r, r.program.limits.MemoryBytes); err != nil {
		return err
	}
	g, err := r.program.instantiate()
	if err != nil {
		r.budget.release(r)
		return err
	}
	r.guest = g
	r.usage.starts.Add(1)
	return nil
}

func (r *runner) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.budget.release(r)
}
