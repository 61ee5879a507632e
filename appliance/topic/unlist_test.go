package topic_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// fullCatalog has no room for a change while it is full.
type fullCatalog struct {
	*fixedCatalog
	full bool
}

func (c *fullCatalog) DeleteTopic(name string) error {
	if c.full {
		return errors.Join(record.ErrDiskFull, syscall.ENOSPC)
	}
	return c.fixedCatalog.DeleteTopic(name)
}

// A topic that was deleted on a disk without room for the Catalog to forget it does not
// come back when the trash is emptied, which is what happens on a full disk.
func TestDeletedStaysDeletedWhenTheCatalogHadNoRoom(t *testing.T) {
	disk := crashfs.New()
	c := &fullCatalog{fixedCatalog: &fixedCatalog{entries: map[string]topic.Entry{}}}
	s, err := openOn(disk, c, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	id := create(t, s, "t", topic.Spec{Partitions: 2}).ID()
	c.full = true
	if err := s.Delete("t"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.EmptyTrash(0); err == nil {
		t.Error("the trash was emptied, and the topic is listed")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.full = false
	for epoch := range int32(2) {
		s, err := openOn(disk, c, 2+epoch, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if s.ByID(id) != nil {
			t.Fatal("the topic was deleted and is back")
		}
		if _, err := s.EmptyTrash(0); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.entries) != 0 {
		t.Error(c.entries)
	}
}
