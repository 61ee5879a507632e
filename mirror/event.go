package mirror

import "time"

// Kind is what was noticed. Every kind but TooLarge and SourceCompacted obeys
// FlowOptions.OnGap.
type Kind string

const (
	// SourcePurged: retention removed records before they were mirrored.
	SourcePurged Kind = "source-purged"
	// SourceRecreated: the source topic was deleted and made anew.
	SourceRecreated Kind = "source-recreated"
	// SourceTruncated: the source ends before what was mirrored from it.
	SourceTruncated Kind = "source-truncated"
	// SourceCorrupt: a batch failed its CRC or does not decode.
	SourceCorrupt Kind = "source-corrupt"
	// SourceCompacted: compaction removed records behind the last known position, so
	// that counting does not tell how far the target has come. They are sent again
	// from there: some twice, none lost, and the last of each key comes last.
	SourceCompacted Kind = "source-compacted"
	// TargetRecreated: the target topic was deleted and made anew.
	TargetRecreated Kind = "target-recreated"
	// TargetTruncated: the target lost records it had acknowledged.
	TargetTruncated Kind = "target-truncated"
	// TargetDiverged: somebody else wrote to the target partition.
	TargetDiverged Kind = "target-diverged"
	// PositionLost: the target partition holds records and no position belongs to them.
	PositionLost Kind = "position-lost"
	// Rejected: the target refuses a record for what it is, such as its timestamp.
	Rejected Kind = "rejected"
	// TooLarge: one record alone exceeds the target's max.message.bytes. It is
	// left out with a gap record and the flow goes on.
	TooLarge Kind = "too-large"
)

// Event is one thing noticed about one partition.
type Event struct {
	Kind      Kind      `json:"kind"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Detail    string    `json:"detail"`
	Halted    bool      `json:"halted"`
	Time      time.Time `json:"time"`
}
