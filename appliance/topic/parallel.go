package topic

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// workersPerCore is more than one because the disk is what is waited for: syncs
// that wait together share a commit of the file system's journal.
const workersPerCore = 4

// inParallel calls do with 0 to n-1, on several goroutines, and returns once all
// have returned. After an error it begins no more; the errors are joined.
func inParallel(n int, do func(i int) error) error {
	workers := min(n, workersPerCore*runtime.GOMAXPROCS(0))
	if workers <= 1 {
		for i := range n {
			if err := do(i); err != nil {
				return err
			}
		}
		return nil
	}
	var next, stop atomic.Int64
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for stop.Load() == 0 {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if errs[w] = do(i); errs[w] != nil {
					stop.Store(1)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
