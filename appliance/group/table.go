package group

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/record"
)

// CopiedFromHeader is the header of a record that a snapshot repeats: the offset,
// 8 bytes big endian, at which the record first stood. It counts as standing there.
const CopiedFromHeader = "weir.copied.from"

// maxOther bounds the keys of versions that this broker does not know.
const maxOther = 10_000

// Offset is one committed offset.
type Offset struct {
	Offset      int64
	LeaderEpoch int32 // -1 when the client did not say
	Metadata    string
	CommitMs    int64 // when, ms since 1970
	// TopicID is whose offset it is, should the name come to mean another topic; zero
	// when the client did not say.
	TopicID TopicID
}

// cell is the last value of one key, and the original offset of its record.
type cell[T any] struct {
	value T
	at    int64
	dead  bool // a tombstone
}

// table is __consumer_offsets compacted: the last record of every key. Only the
// follower changes it.
type table struct {
	mu      sync.RWMutex
	groups  map[string]*tableGroup
	other   map[string]cell[[]byte] // records that this version does not know, by raw key
	offsets int                     // live offsets of all groups
	// Tombstones are remembered only while a copy of what they delete may still
	// follow them in the log: up to this offset.
	copiesEnd int64
	dead      int // tombstones remembered

	// held is the commits of transactions that have not ended, by producer id, and
	// heldOf how many there are of each group and partition.
	held   map[int64][]record.Record
	heldOf map[heldKey]map[TopicID]int
	holds  int
}

type tableGroup struct {
	meta    cell[[]byte]                           // GroupMetadataValue; at is -1 when there is none
	offsets map[record.TopicPartition]cell[Offset] // live and dead
	live    int
	// consumers is the records of the consumer protocol, by raw key, and members how
	// many of them are alive.
	consumers map[string]cell[[]byte]
	members   int
}

func newTable() *table {
	return &table{groups: map[string]*tableGroup{}, other: map[string]cell[[]byte]{}, held: map[int64][]record.Record{}, heldOf: map[heldKey]map[TopicID]int{}}
}

// apply takes over one record of the log. The error is of a record that cannot
// be understood; it is carried along, or ignored if its key makes no sense.
func (t *table) apply(r *record.Record) error {
	at := r.Offset
	if from, ok := r.Header(CopiedFromHeader); ok && len(from) == 8 {
		at = int64(binary.BigEndian.Uint64(from))
	}
	switch versionOf(r.Key) {
	case 0, offsetKeyVersion:
		var k kmsg.OffsetCommitKey
		if err := k.ReadFrom(r.Key); err != nil {
			return fmt.Errorf("offset key: %w", err)
		}
		return t.applyOffset(&k, r, at)
	case groupKeyVersion:
		var k kmsg.GroupMetadataKey
		if err := k.ReadFrom(r.Key); err != nil {
			return fmt.Errorf("group key: %w", err)
		}
		t.applyGroup(k.Group, r, at)
		return nil
	}
	if ofConsumers(versionOf(r.Key)) {
		_, group, _, err := parseConsumerKey(r.Key)
		if err == nil {
			t.applyConsumers(group, r, at)
		}
		return err
	}
	return t.applyOther(r, at)
}

func (t *table) applyOffset(k *kmsg.OffsetCommitKey, r *record.Record, at int64) error {
	c := cell[Offset]{at: at, dead: r.Value == nil}
	if !c.dead {
		version := versionOf(r.Value)
		if version < 0 || version > maxReadValueVersion {
			return t.applyOther(r, at)
		}
		v := kmsg.NewOffsetCommitValue()
		if err := v.ReadFrom(r.Value); err != nil {
			return fmt.Errorf("offset of group %q, %s-%d: %w", k.Group, k.Topic, k.Partition, err)
		}
		if version < 3 {
			v.LeaderEpoch = -1
		}
		c.value = Offset{Offset: v.Offset, LeaderEpoch: v.LeaderEpoch, Metadata: v.Metadata, CommitMs: v.CommitTimestamp}
		if id, ok := r.Header(topicIDHeader); ok && len(id) == len(c.value.TopicID) {
			c.value.TopicID = TopicID(id)
		}
	}
	tp := record.TopicPartition{Topic: k.Topic, Partition: k.Partition}
	g := t.group(k.Group)
	old, had := g.offsets[tp]
	if had && old.at > at {
		return nil
	}
	t.count(g, had, old.dead, -1)
	if c.dead && r.Offset >= t.copiesEnd {
		delete(g.offsets, tp)
		t.drop(k.Group, g)
		return nil
	}
	g.offsets[tp] = c
	t.count(g, true, c.dead, 1)
	return nil
}

// count keeps the numbers of live and dead offsets.
func (t *table) count(g *tableGroup, has, dead bool, by int) {
	switch {
	case !has:
	case dead:
		t.dead += by
	default:
		t.offsets += by
		g.live += by
	}
}

func (t *table) applyGroup(id string, r *record.Record, at int64) {
	g := t.group(id)
	if g.meta.at > at {
		return
	}
	if g.meta.dead {
		t.dead--
	}
	g.meta = cell[[]byte]{value: slices.Clone(r.Value), at: at, dead: r.Value == nil}
	switch {
	case !g.meta.dead:
	case r.Offset >= t.copiesEnd:
		g.meta = cell[[]byte]{at: -1}
		t.drop(id, g)
	default:
		t.dead++
	}
}

// applyConsumers takes over a record of the consumer protocol.
func (t *table) applyConsumers(id string, r *record.Record, at int64) {
	g, key := t.group(id), string(r.Key)
	old, had := g.consumers[key]
	if had && old.at > at {
		return
	}
	t.countConsumers(g, had, old.dead, -1)
	dead := r.Value == nil
	if dead && r.Offset >= t.copiesEnd {
		delete(g.consumers, key)
		t.drop(id, g)
		return
	}
	if g.consumers == nil {
		g.consumers = map[string]cell[[]byte]{}
	}
	g.consumers[key] = cell[[]byte]{value: slices.Clone(r.Value), at: at, dead: dead}
	t.countConsumers(g, true, dead, 1)
}

func (t *table) countConsumers(g *tableGroup, has, dead bool, by int) {
	switch {
	case !has:
	case dead:
		t.dead += by
	default:
		g.members += by
	}
}

func (t *table) applyOther(r *record.Record, at int64) error {
	key := string(r.Key)
	old, had := t.other[key]
	if had && old.at > at {
		return nil
	}
	if !had && len(t.other) >= maxOther {
		return fmt.Errorf("%d records of newer versions, no more are kept", maxOther)
	}
	if had && old.dead {
		t.dead--
	}
	if r.Value == nil && r.Offset >= t.copiesEnd {
		delete(t.other, key)
		return nil
	}
	t.other[key] = cell[[]byte]{value: slices.Clone(r.Value), at: at, dead: r.Value == nil}
	if r.Value == nil {
		t.dead++
		return nil
	}
	return fmt.Errorf("key version %d, value version %d: written by a newer broker", versionOf(r.Key), versionOf(r.Value))
}

func (t *table) group(id string) *tableGroup {
	g := t.groups[id]
	if g == nil {
		g = &tableGroup{meta: cell[[]byte]{at: -1}, offsets: map[record.TopicPartition]cell[Offset]{}}
		t.groups[id] = g
	}
	return g
}

// drop forgets a group of which nothing is left.
func (t *table) drop(id string, g *tableGroup) {
	if len(g.offsets) == 0 && g.meta.at < 0 && len(g.consumers) == 0 {
		delete(t.groups, id)
	}
}

// forgetDead drops the tombstones: every record below next is applied, and no copy follows.
func (t *table) forgetDead(next int64) {
	if t.dead == 0 || next < t.copiesEnd {
		return
	}
	for id, g := range t.groups {
		for tp, c := range g.offsets {
			if c.dead {
				delete(g.offsets, tp)
			}
		}
		if g.meta.dead {
			g.meta = cell[[]byte]{at: -1}
		}
		maps.DeleteFunc(g.consumers, func(_ string, c cell[[]byte]) bool { return c.dead })
		t.drop(id, g)
	}
	for key, c := range t.other {
		if c.dead {
			delete(t.other, key)
		}
	}
	t.dead = 0
}

// exists reports whether the log knows anything alive of the group.
func (g *tableGroup) exists() bool {
	return g != nil && (g.live > 0 || g.members > 0 || g.meta.at >= 0 && !g.meta.dead)
}

// metadata is the group's GroupMetadataValue, nil when it has none; known says
// whether the group exists.
func (t *table) metadata(id string) (value []byte, known bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.groups[id]
	if !g.exists() {
		return nil, false
	}
	return g.meta.value, true
}

// consumers is a group's records of the consumer protocol; nil when it has none.
func (t *table) consumers(id string) (records map[string][]byte) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.groups[id]
	if g == nil || g.members == 0 {
		return nil
	}
	records = make(map[string][]byte, g.members)
	for key, c := range g.consumers {
		if !c.dead {
			records[key] = c.value
		}
	}
	return records
}

// committed is one committed offset.
func (t *table) committed(id string, tp record.TopicPartition) (Offset, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if g := t.groups[id]; g != nil {
		if c, ok := g.offsets[tp]; ok && !c.dead {
			return c.value, true
		}
	}
	return Offset{}, false
}

// commits is all committed offsets of a group, a copy.
func (t *table) commits(id string) map[record.TopicPartition]Offset {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.groups[id]
	if g == nil {
		return nil
	}
	out := make(map[record.TopicPartition]Offset, g.live)
	for tp, c := range g.offsets {
		if !c.dead {
			out[tp] = c.value
		}
	}
	return out
}

// ids lists the groups that exist.
func (t *table) ids() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	ids := make([]string, 0, len(t.groups))
	for id, g := range t.groups {
		if g.exists() {
			ids = append(ids, id)
		}
	}
	return ids
}

// size is how many groups and offsets there are.
func (t *table) size() (groups, offsets int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.groups), t.offsets
}
