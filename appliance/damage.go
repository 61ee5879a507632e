package appliance

import (
	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/wal"
)

// MaxLostNamed bounds the runs of lost records that the status lists.
const MaxLostNamed = 100

// DamageStatus is what the disk did not keep. All the rest is served.
type DamageStatus struct {
	Ranges  int          `json:"ranges"`       // runs of records that are lost
	Records int64        `json:"records"`      // offsets in them
	Lost    []topic.Lost `json:"lost"`         // the first of them, at most MaxLostNamed
	WAL     []wal.Damage `json:"wal,omitzero"` // found in the write-ahead log by this start
}

func (d *DamageStatus) add(lost []topic.Lost) {
	d.Ranges += len(lost)
	for _, l := range lost {
		d.Records += l.Last + 1 - l.First
	}
	d.Lost = append(d.Lost, lost[:min(len(lost), MaxLostNamed-len(d.Lost))]...)
}

func (d *DamageStatus) metrics(w *metric.Writer) {
	w.Gauge("weir_lost_ranges", "Runs of records that damage on the disk has taken; see damage in /v1/status.", float64(d.Ranges))
	w.Gauge("weir_lost_records", "Offsets in those.", float64(d.Records))
	w.Gauge("weir_wal_damage", "Damaged stretches of the write-ahead log that the last start found; their bytes are in quarantine.", float64(len(d.WAL)))
}
