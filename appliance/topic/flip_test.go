package topic_test

import (
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/vfs"
)

// A batch's first 21 bytes are under no CRC, and those of a segment's first batch are what
// the segment is known by: none of their bits costs more than that batch.
func TestUnprotectedBitsCostOneBatch(t *testing.T) {
	eachLedger(t, func(t *testing.T, l *ledger) {
		names, files := l.files(t)
		for _, name := range names {
			if !strings.HasSuffix(name, ".log") || len(files[name]) == 0 {
				continue
			}
			for at := range 21 {
				for bit := byte(1); bit != 0; bit <<= 1 {
					disk := l.with(t, name, func(f vfs.File) error {
						_, err := f.WriteAt([]byte{files[name][at] ^ bit}, int64(at))
						return err
					})
					if lost, err := l.verify(disk); err != nil || lost > 1 {
						t.Errorf("%s byte %d bit %02x: %d records lost by one bit, %v", name, at, bit, lost, err)
					}
				}
			}
		}
	})
}
