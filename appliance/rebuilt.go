package appliance

import (
	"github.com/weirmq/weir/appliance/metadata"
	"github.com/weirmq/weir/appliance/metric"
)

// Metadata is what the broker's status says of its metadata.
type Metadata struct {
	// State is "intact", or what this start rebuilt it from: "rebuilt from copy" lost
	// nothing, "rebuilt from folders" lost what parts keep there (the plugin registry).
	State string `json:"state"`
	// Adopted counts the topics that this start found on the disk alone.
	Adopted int `json:"topics_adopted"`
	// Recovery is the last time that it had to be rebuilt.
	Recovery *metadata.Recovery `json:"last_recovery,omitempty"`
}

// raise has epochs and producer ids go on above what the log holds, should the
// metadata have known less (R6): an offset and its epoch never come twice.
func (b *Broker) raise(epoch int32, producerID int64) (int32, error) {
	if err := b.store.RaiseProducerIDs(producerID); err != nil {
		return 0, err
	}
	if epoch < b.epoch {
		return b.epoch, nil
	}
	before := b.epoch
	var err error
	b.epoch, err = b.store.RaiseEpoch(epoch)
	b.log.Warn("the log holds a later leader epoch than the metadata knew", "metadata", before, "log", epoch, "leader_epoch", b.epoch)
	return b.epoch, err
}

// reportMetadata says loudly what Open found in place of the metadata.
func (b *Broker) reportMetadata() {
	if err := b.store.CopyMended(); err != nil {
		b.log.Error("the second copy of the metadata was damaged and is written anew", "err", err)
	}
	r, now := b.store.Recovery()
	if !now {
		return
	}
	attrs := []any{"reason", r.Reason, "rebuilt_from", r.From, "damaged_file", r.Kept, "times", r.Count}
	if r.From == metadata.FromFolders {
		b.log.Error("the metadata and its copy were lost: topics are taken from the folders; plugins must be deployed again", attrs...)
		return
	}
	b.log.Error("the metadata was lost and is rebuilt from its copy; nothing is missing", attrs...)
}

// MetadataWarning says in an operator's words what happened to the metadata before
// this start; "" if nothing did.
func (b *Broker) MetadataWarning() string {
	r, now := b.store.Recovery()
	if !now {
		return ""
	}
	text := "the metadata was missing or damaged (" + r.Reason + ") and is rebuilt from its copy; nothing is missing, but the disk should be looked at"
	if r.From == metadata.FromFolders {
		text = "the metadata and its copy were lost (" + r.Reason + "): topics are taken from their folders; deploy the plugins again and look at the disk"
	}
	if r.Kept != "" {
		text += "; the damaged file is " + r.Kept
	}
	return text
}

func (b *Broker) metadataStatus() Metadata {
	m := Metadata{State: "intact", Adopted: b.topics.Adopted()}
	r, now := b.store.Recovery()
	if now {
		m.State = "rebuilt from " + r.From
	}
	m.Recovery = r
	return m
}

func (m Metadata) metrics(w *metric.Writer) {
	rebuilt, times := 0.0, 0
	if m.State != "intact" {
		rebuilt = 1
	}
	if m.Recovery != nil {
		times = m.Recovery.Count
	}
	w.Gauge("weir_metadata_rebuilt", "1 if this start found the metadata missing or damaged.", rebuilt)
	w.Counter("weir_metadata_rebuilt_total", "How often a start had to rebuild the metadata.", float64(times))
	w.Gauge("weir_metadata_topics_adopted", "Topics that this start found on the disk alone.", float64(m.Adopted))
}
