package mirror

import "fmt"

// sourceView and targetView are a partition as it is found on both sides.
type sourceView struct {
	id         hexID
	start, end int64 // log start offset and high watermark
}

type targetView struct {
	id  hexID // zero when the target shows no ids
	end int64
}

// A plan is how a partition starts: adopt the anchor found, or claim a new one.
type plan struct {
	from int64 // source offset to start from
	skip int64 // adopt: records to count off from there, the target has them

	claim  bool
	event  Kind // what was noticed; "" for an ordinary start
	detail string
	lost   [2]int64 // source offsets [first, next) that the target will not get
}

// planStart compares the anchor with what is there. Whatever contradicts it is
// an event and never a guess; claim and from are then what gap-and-continue does.
func planStart(a anchor, known bool, src sourceView, dst targetView) plan {
	if !known {
		p := plan{claim: true, from: src.start}
		if dst.end > 0 {
			p.event, p.detail = PositionLost, fmt.Sprintf("the target partition ends at %d and no position is kept for it", dst.end)
		}
		return p
	}
	switch {
	case src.id != a.SourceID:
		return plan{claim: true, from: src.start, event: SourceRecreated,
			detail: fmt.Sprintf("source topic id is %x, the position at the target is for %x", src.id, a.SourceID)}
	case dst.id != hexID{} && a.TargetID != hexID{} && dst.id != a.TargetID:
		return rewind(TargetRecreated, a.SourceOffset-a.TargetOffset, src,
			fmt.Sprintf("target topic id is %x, it was %x", dst.id, a.TargetID))
	case dst.end < a.TargetOffset:
		return rewind(TargetTruncated, a.SourceOffset-(a.TargetOffset-dst.end), src,
			fmt.Sprintf("the target ends at %d, it had acknowledged up to %d", dst.end, a.TargetOffset))
	case src.end < a.SourceOffset:
		return plan{claim: true, from: src.end, event: SourceTruncated,
			detail: fmt.Sprintf("the source ends at %d, up to %d was mirrored", src.end, a.SourceOffset)}
	case src.start > a.SourceOffset:
		return rewind(SourcePurged, a.SourceOffset+dst.end-a.TargetOffset, src,
			fmt.Sprintf("the source starts at %d, up to %d was known to be mirrored", src.start, a.SourceOffset))
	}
	return plan{from: a.SourceOffset, skip: dst.end - a.TargetOffset}
}

// rewind starts at the offset wanted or, when the source no longer holds it,
// at the log's start with the difference lost. One target offset is taken for
// one source offset, which is exact unless the source is compacted.
func rewind(event Kind, wanted int64, src sourceView, detail string) plan {
	p := plan{claim: true, event: event, detail: detail, from: min(max(wanted, src.start), src.end)}
	if wanted = max(wanted, 0); wanted < p.from {
		p.lost = [2]int64{wanted, p.from}
	}
	return p
}
