package group_test

import (
	"context"
	"errors"
	"testing"

	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
)

// damaging is a log that alters the last byte of what is fetched.
type damaging struct{ group.Log }

func (d damaging) Fetch(ctx context.Context, tp record.TopicPartition, offset int64, maxBytes int) (record.Batches, error) {
	bs, err := d.Log.Fetch(ctx, tp, offset, maxBytes)
	if len(bs) > 0 {
		bs[len(bs)-2] ^= 1
	}
	return bs, err
}

// What is damaged on its way is not taken for a committed offset.
func TestDamagedCommitIsIgnored(t *testing.T) {
	b := newBox(t)
	b.open()
	b.commit("g", tp("t", 0), 5)
	b.close()
	b.wrap = func(l group.Log) group.Log { return damaging{l} }
	b.open()
	defer b.close()
	b.want("g", tp("t", 0), -1)
}

// refusing is a log that accepts nothing.
type refusing struct{ group.Log }

func (refusing) AppendAsync(_ record.TopicPartition, _ record.Batch, done record.Completion) {
	done.Complete(-1, record.ErrDiskFull)
}

// A commit that the log refuses is an error of the commit.
func TestRefusedCommitIsAnError(t *testing.T) {
	b := newBox(t)
	b.wrap = func(l group.Log) group.Log { return refusing{l} }
	c := b.open()
	defer b.close()
	_, err := c.Commit("g", group.Commit{Generation: -1, Offsets: []group.CommitOffset{{TopicPartition: tp("t", 0), Offset: 5}}})
	if !errors.Is(err, record.ErrDiskFull) {
		t.Errorf("%v, want an error that says why", err)
	}
	b.want("g", tp("t", 0), -1)
}
