package group

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/record"
)

// heldKey names what a commit changes.
type heldKey struct {
	group string
	record.TopicPartition
}

func heldKeyOf(r *record.Record) (key heldKey, topic TopicID, err error) {
	var k kmsg.OffsetCommitKey
	if err := k.ReadFrom(r.Key); err != nil {
		return key, topic, fmt.Errorf("offset key: %w", err)
	}
	if id, ok := r.Header(topicIDHeader); ok && len(id) == len(topic) {
		topic = TopicID(id)
	}
	return heldKey{k.Group, record.TopicPartition{Topic: k.Topic, Partition: k.Partition}}, topic, nil
}

// hold keeps a commit of a producer's transaction until that has ended.
func (t *table) hold(producer int64, r *record.Record) error {
	key, topic, err := heldKeyOf(r)
	if err != nil {
		return err
	}
	c := record.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: slices.Clone(r.Key), Value: slices.Clone(r.Value)}
	if id, ok := r.Header(topicIDHeader); ok {
		c.Headers = []record.Header{{Key: topicIDHeader, Value: slices.Clone(id)}}
	}
	t.held[producer] = append(t.held[producer], c)
	if t.heldOf[key] == nil {
		t.heldOf[key] = map[TopicID]int{}
	}
	t.heldOf[key][topic]++
	t.holds++
	return nil
}

// applyMarker applies what a producer's transaction has committed, or forgets it. The
// records count as standing where they stand, not at the marker: as in Kafka, a
// commit outside of transactions that came later holds.
func (t *table) applyMarker(b record.Batch) (first error) {
	m, ok, err := b.Marker()
	if err != nil || !ok {
		return err
	}
	held := t.held[m.ProducerID]
	delete(t.held, m.ProducerID)
	t.holds -= len(held)
	for i := range held {
		key, topic, _ := heldKeyOf(&held[i]) // it was understood when it came
		of := t.heldOf[key]
		if of[topic]--; of[topic] == 0 {
			delete(of, topic)
		}
		if len(of) == 0 {
			delete(t.heldOf, key)
		}
	}
	if !m.Commit {
		return nil
	}
	for i := range held {
		if err := t.apply(&held[i]); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// undecided is how many offsets transactions that have not ended would commit.
func (t *table) undecided() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.holds
}

// unstable is the topics, of the partition's name, of which they would commit the offset
// of that group and partition.
func (t *table) unstable(group string, tp record.TopicPartition) []TopicID {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Keys(t.heldOf[heldKey{group, tp}]))
}

// firstHeld is the offset of the first record of a transaction that has not ended, or
// end if there is none.
func (t *table) firstHeld(end int64) int64 {
	for _, held := range t.held {
		end = min(end, held[0].Offset)
	}
	return end
}
