package group

import (
	"bytes"
	"cmp"
	"slices"
)

// TopicID is a topic's identity.
type TopicID = [16]byte

// Held is a partition that a member may consume.
type Held struct {
	Topic     TopicID
	Partition int32
}

func (h Held) compare(o Held) int {
	return cmp.Or(bytes.Compare(h.Topic[:], o.Topic[:]), cmp.Compare(h.Partition, o.Partition))
}

// Share is partitions of a group that belong together, sorted and each once.
type Share []Held

// NewShare sorts partitions into a Share.
func NewShare(hs ...Held) Share {
	s := slices.Clone(hs)
	slices.SortFunc(s, Held.compare)
	return slices.Compact(s)
}

func (s Share) has(h Held) bool {
	_, ok := slices.BinarySearchFunc(s, h, Held.compare)
	return ok
}

// filter is the partitions that keep says.
func (s Share) filter(keep func(Held) bool) (out Share) {
	for _, h := range s {
		if keep(h) {
			out = append(out, h)
		}
	}
	return out
}

func (s Share) and(o Share) Share   { return s.filter(o.has) }
func (s Share) minus(o Share) Share { return s.filter(func(h Held) bool { return !o.has(h) }) }

// Topics calls each for every topic with its partitions.
func (s Share) Topics(each func(topic TopicID, partitions []int32)) {
	for i := 0; i < len(s); {
		var ps []int32
		topic := s[i].Topic
		for ; i < len(s) && s[i].Topic == topic; i++ {
			ps = append(ps, s[i].Partition)
		}
		each(topic, ps)
	}
}
