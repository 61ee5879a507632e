package mirror

import "github.com/weirmq/weir/appliance/record"

// Carried is the offset of a local partition before which every flow that covers
// it has everything acknowledged by its target. It is not known when no flow covers
// it, or when one of those does not know yet how far it is: after a start, until
// its target has been asked.
func (m *Mirror) Carried(tp record.TopicPartition) (offset int64, known bool) {
	for _, f := range m.flows {
		at, covers, knows := f.carried(tp)
		switch {
		case !covers:
		case !knows:
			return 0, false
		case !known || at < offset:
			offset, known = at, true
		}
	}
	return offset, known
}

// carried asks the local topics, not the lanes, whether the flow covers a
// partition: there is no lane before the steward's first turn.
func (f *flow) carried(tp record.TopicPartition) (offset int64, covers, known bool) {
	topics := f.deps.Topics.Topics()
	inbound := inboundSites(topics)
	for _, t := range topics {
		if t.Name != tp.Topic || !f.choice.takes(t, inbound) {
			continue
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		l := f.lanes[tp]
		if l == nil || l.sourceID != t.ID || !l.started {
			return 0, true, false
		}
		return l.win.source, true, true
	}
	return 0, false, false
}
