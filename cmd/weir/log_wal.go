package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
)

// walFolder recognises the folder wal of a data folder, and a file in it.
func walFolder(name string) (data, only string, ok bool) {
	full, err := filepath.Abs(name)
	if err != nil {
		return "", "", false
	}
	if info, err := os.Stat(full); err != nil {
		return "", "", false
	} else if !info.IsDir() {
		full, only = filepath.Split(full)
		full = filepath.Clean(full)
	}
	if filepath.Base(full) != "wal" || only != "" && !strings.HasSuffix(only, ".wal") {
		return "", "", false
	}
	return filepath.Dir(full), only, true
}

func dumpWAL(s *session, data, only string) error {
	err := topic.DumpWAL(vfs.OS(data), only, func(r topic.WALRound) error {
		return s.show(r, func(w io.Writer) {
			state := "to be replayed"
			if r.Checkpointed {
				state = "checkpointed"
			}
			fmt.Fprintf(w, "%s @%d round %d, %d entries, %d bytes, synced up to %d, %s\n",
				filepath.Base(r.File), r.Position, r.Round, len(r.Entries), r.Bytes, r.Synced, state)
			for _, e := range r.Entries {
				fmt.Fprintln(w, "  "+entryText(e))
			}
		})
	})
	if err != nil {
		return failf(exitFailed, "cannot print the write-ahead log of %s: %w", data, err)
	}
	return nil
}

func entryText(e topic.WALEntry) string {
	if e.Kind == "" {
		return e.Error
	}
	name := e.Topic
	if name == "" {
		name = e.TopicID
	}
	text := fmt.Sprintf("%s %s-%d", e.Kind, name, e.Partition)
	if e.LastOffset < 0 {
		return text + fmt.Sprintf(" offset %d", e.Offset)
	}
	text += fmt.Sprintf(" offsets %d-%d, %d records, %d bytes -> %020d.log @%d", e.Offset, e.LastOffset, e.Records, e.Bytes, e.Segment, e.Byte)
	if e.Error != "" {
		text += " " + e.Error
	}
	return text
}
