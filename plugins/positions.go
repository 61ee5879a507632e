package plugins

import (
	"cmp"
	"sync"

	"github.com/weirmq/weir/appliance/record"
)

// positions remembers what this process committed. The coordinator behind reads
// commits back from the log, a little later: a plugin that is stopped and started
// again must not fall behind itself.
type positions struct {
	Positions

	mu   sync.Mutex
	last map[position]int64
}

type position struct {
	group string
	tp    record.TopicPartition
}

// Committed implements transform.Positions.
func (p *positions) Committed(group string, tp record.TopicPartition) (int64, bool, error) {
	p.mu.Lock()
	offset, ok := p.last[position{group, tp}]
	p.mu.Unlock()
	if ok {
		return offset, true, nil
	}
	return p.Positions.Committed(group, tp)
}

// Applied implements transform.Positions.
func (p *positions) Applied(group string, tp record.TopicPartition, offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[position{group, tp}] = offset
}

// forget is for a partition that is gone; its successor starts anew.
func (p *positions) forget(group string, tp record.TopicPartition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.last, position{group, tp})
}

func comparePartitions(a, b record.TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
