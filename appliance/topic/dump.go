package topic

import (
	"fmt"
	"path"
	"strings"

	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
)

// WALRound is a round of the write-ahead log in words.
type WALRound struct {
	File         string     `json:"file"`
	Position     int64      `json:"position"`
	Round        uint64     `json:"round"`
	Bytes        int64      `json:"bytes"`
	Synced       uint64     `json:"synced"`       // up to this round all was synced when it was written
	Checkpointed bool       `json:"checkpointed"` // the next start does not replay it
	Entries      []WALEntry `json:"entries"`
}

// WALEntry is what a round does to one partition. What the kind does not have is -1.
type WALEntry struct {
	Kind      string `json:"kind"`            // append, duplicate, log-start, roll
	Topic     string `json:"topic,omitempty"` // empty when no topic on the disk has the id
	TopicID   string `json:"topic_id"`
	Partition int32  `json:"partition"`
	// Offset is the first of the batch; or where the log starts, or its segment begins, from now on.
	Offset     int64  `json:"offset"`
	LastOffset int64  `json:"last_offset"`
	Records    int32  `json:"records"`
	Bytes      int    `json:"bytes"`
	Segment    int64  `json:"segment"` // where the batch goes: the segment's base offset and the byte in it
	Byte       int64  `json:"byte"`
	Error      string `json:"error,omitempty"`
}

var entryKinds = map[byte]string{entryAppend: "append", entryDuplicate: "duplicate", entryLogStart: "log-start", entryRoll: "roll"}

// DumpWAL calls fn for each whole round of the write-ahead log's files in a data
// folder, or of the one named only, file by file, and changes nothing.
func DumpWAL(fsys vfs.FS, only string, fn func(WALRound) error) error {
	files := []string{only}
	if only == "" {
		var err error
		if files, err = wal.Names(fsys, walDir); err != nil {
			return err
		}
	}
	names := topicNames(fsys)
	for _, name := range files {
		err := wal.Dump(fsys, walDir, name, func(r wal.Round) error {
			row := WALRound{File: path.Join(walDir, name), Position: r.Position, Round: r.Seq, Bytes: r.Bytes, Synced: r.Synced,
				Checkpointed: r.Checkpointed, Entries: make([]WALEntry, 0, min(r.Entries, 1024))}
			err := r.Each(func(b []byte) error {
				row.Entries = append(row.Entries, describeEntry(b, names))
				return nil
			})
			if err != nil {
				return fmt.Errorf("round %d at byte %d: %w", r.Seq, r.Position, err)
			}
			return fn(row)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", path.Join(walDir, name), err)
		}
	}
	return nil
}

// topicNames is the topics on the disk, as far as they can be told.
func topicNames(fsys vfs.FS) map[ID]string {
	names := map[ID]string{}
	files, err := fsys.List(topicsDir)
	if err != nil {
		return names
	}
	for _, file := range files {
		if name, ok := strings.CutSuffix(file, identitySuffix); ok {
			if e, err := loadIdentity(fsys, topicsDir, name); err == nil {
				names[e.ID] = e.Name
			}
		}
	}
	return names
}

func describeEntry(b []byte, names map[ID]string) WALEntry {
	w := WALEntry{Offset: -1, LastOffset: -1, Records: -1, Bytes: len(b), Segment: -1, Byte: -1}
	e, err := parseEntry(b)
	if err != nil {
		w.Error = err.Error()
		return w
	}
	w.Kind, w.Topic, w.TopicID, w.Partition, w.Offset = entryKinds[e.kind], names[e.id], e.id.String(), e.partition, e.offset
	if e.kind == entryAppend {
		w.Offset, w.LastOffset, w.Records, w.Bytes = e.batch.BaseOffset(), e.batch.LastOffset(), e.batch.Count(), len(e.batch)
		w.Segment, w.Byte = e.at.Segment, e.at.Byte
		if err := e.batch.Validate(); err != nil {
			w.Error = err.Error()
		}
	}
	return w
}
