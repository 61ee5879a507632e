package txn

import (
	"fmt"
	"time"
)

// Limits bounds what producers may ask of the coordinator. A zero field is its default.
type Limits struct {
	// MaxTimeout is transaction.max.timeout.ms: the most that a producer may set as its
	// transaction.timeout.ms (15 min). Readers of what is committed wait that long, at
	// most, for a producer that is gone.
	MaxTimeout time.Duration
	// MaxTransactionalIDs bounds the transactional.ids that the broker knows (10,000).
	MaxTransactionalIDs int
	// MaxPartitions bounds the partitions of one transaction (10,000).
	MaxPartitions int
	// MaxIDBytes bounds a transactional.id (255).
	MaxIDBytes int
}

func (l Limits) withDefaults() Limits {
	if l.MaxTimeout == 0 {
		l.MaxTimeout = 15 * time.Minute
	}
	for _, f := range []struct {
		p *int
		v int
	}{{&l.MaxTransactionalIDs, 10_000}, {&l.MaxPartitions, 10_000}, {&l.MaxIDBytes, 255}} {
		if *f.p == 0 {
			*f.p = f.v
		}
	}
	return l
}

// Validate says what is wrong with the limits, by the names of the config keys.
func (l Limits) Validate() error {
	switch {
	case l.MaxTimeout < 0:
		return fmt.Errorf("txn: transaction.max.timeout.ms is %v, it must not be negative", l.MaxTimeout)
	case l.MaxTransactionalIDs < 0 || l.MaxPartitions < 0 || l.MaxIDBytes < 0:
		return fmt.Errorf("txn: limits of %d transactional ids, %d partitions and %d bytes, none may be negative", l.MaxTransactionalIDs, l.MaxPartitions, l.MaxIDBytes)
	}
	return nil
}

func (l *Limits) checkID(id string) error {
	if id == "" || len(id) > l.MaxIDBytes {
		return fmt.Errorf("%w: transactional.id of %d bytes, it must have 1 to %d", ErrInvalidRequest, len(id), l.MaxIDBytes)
	}
	return nil
}
