package kafka

import (
	"fmt"

	"github.com/weirmq/weir/appliance/record"
)

// loadWithoutZstd reads the section into memory and refuses it if a batch is zstd.
func (part *fetchPart) loadWithoutZstd() error {
	raw, err := part.section.AppendTo(nil)
	part.close()
	if err != nil {
		return err
	}
	for b := range record.Batches(raw).All() {
		if b.Codec() == record.Zstd {
			return fmt.Errorf("%w: zstd needs Fetch v10 or later", record.ErrUnsupportedCodec)
		}
	}
	part.records = raw
	return nil
}
