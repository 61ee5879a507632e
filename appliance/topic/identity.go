package topic

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// A topic's identity lies beside its folders, in topics/NAME.topic, so that the
// topic is there when the Catalog has lost it: one line with a CRC-32C of the rest,
// then the entry as JSON. Where the identity lies decides what the topic is: in
// "topics" it lives, in the trash it is deleted, whatever else says otherwise.
const (
	identitySuffix   = ".topic"
	identityMagic    = "weir topic 1 crc32c="
	maxIdentityBytes = 1 << 20
)

var errIdentity = errors.New("the topic's identity is damaged")

// identityJSON is an Entry as its identity file has it.
type identityJSON struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"` // URL-safe base64, as in partition.metadata
	Partitions int32             `json:"partitions"`
	Configs    map[string]string `json:"configs,omitempty"`
	Internal   bool              `json:"internal,omitempty"`
	CreatedMs  int64             `json:"createdMs"`
}

func (id ID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// parseID reads what ID.String wrote.
func parseID(text string) (id ID, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	return id, err == nil && len(b) == len(id) && copy(id[:], b) == len(id)
}

func encodeIdentity(e Entry) ([]byte, error) {
	body, err := json.Marshal(identityJSON{e.Name, e.ID.String(), e.Partitions, e.Configs, e.Internal, e.Created.UnixMilli()})
	if err != nil {
		return nil, fmt.Errorf("topic: identity of %s: %w", e.Name, err)
	}
	body = append(body, '\n')
	return append(fmt.Appendf(nil, "%s%08x\n", identityMagic, crc32.Checksum(body, castagnoli)), body...), nil
}

// decodeIdentity reads an identity; the error is errIdentity.
func decodeIdentity(b []byte) (e Entry, err error) {
	head, body, ok := strings.Cut(string(b), "\n")
	if !ok || head != fmt.Sprintf("%s%08x", identityMagic, crc32.Checksum([]byte(body), castagnoli)) {
		return e, errIdentity
	}
	var j identityJSON
	if err := json.Unmarshal([]byte(body), &j); err != nil {
		return e, fmt.Errorf("%w: %w", errIdentity, err)
	}
	id, ok := parseID(j.ID)
	if !ok || CheckName(j.Name) != nil || j.Partitions < 1 || CheckConfigs(j.Configs) != nil {
		return e, fmt.Errorf("%w: %.100q", errIdentity, body)
	}
	return Entry{j.Name, id, j.Partitions, j.Configs, j.Internal, time.UnixMilli(j.CreatedMs)}, nil
}

// equal reports whether the identity says what the Catalog says.
func (e Entry) equal(f Entry) bool {
	a, err1 := encodeIdentity(e)
	b, err2 := encodeIdentity(f)
	return err1 == nil && err2 == nil && string(a) == string(b)
}

func identityFile(name string) string { return name + identitySuffix }

// loadIdentity reads the identity that lies in dir. The errors are fs.ErrNotExist,
// errIdentity, also for another topic's, and the disk's.
func loadIdentity(fsys vfs.FS, dir, name string) (Entry, error) {
	b, err := readFile(fsys, dir+"/"+identityFile(name), maxIdentityBytes)
	if err != nil {
		return Entry{}, err
	}
	e, err := decodeIdentity(b)
	if err == nil && e.Name != name {
		err = fmt.Errorf("%w: it is of topic %s", errIdentity, e.Name)
	}
	return e, err
}

// saveIdentities puts the identities of topics in their places. They are durable
// once the caller has synced topicsDir. A temporary name is made of the id: the
// topic's may leave no room for a suffix.
func (s *Set) saveIdentities(entries []Entry) error {
	return inParallel(len(entries), func(i int) error {
		e, fsys := entries[i], s.opts.FS
		b, err := encodeIdentity(e)
		if err != nil {
			return err
		}
		tmp := topicsDir + "/" + e.ID.String() + tmpSuffix
		if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("topic: remove %s: %w", tmp, err)
		}
		f, err := fsys.Create(tmp)
		if err != nil {
			return fmt.Errorf("topic: create %s: %w", tmp, err)
		}
		if _, err = f.WriteAt(b, 0); err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("topic: write %s: %w", tmp, err)
		} else if err = fsys.Rename(tmp, topicsDir+"/"+identityFile(e.Name)); err != nil {
			err = fmt.Errorf("topic: rename %s: %w", tmp, err)
		}
		if err != nil {
			_ = fsys.Remove(tmp) // it says nothing under that name
		}
		return err
	})
}

const tmpSuffix = ".tmp"

func (s *Set) syncTopics() error {
	if err := s.opts.FS.SyncDir(topicsDir); err != nil {
		return fmt.Errorf("topic: sync folder %s: %w", topicsDir, err)
	}
	return nil
}

// updateIdentity brings the identity to what the Catalog says already. The change
// that it follows is in force, whatever the error; the set fails then, and the next
// Open tries again.
func (s *Set) updateIdentity(t *Topic) error {
	err := s.saveIdentities([]Entry{t.entry()})
	if err == nil {
		err = s.syncTopics()
	}
	if err != nil {
		err = fmt.Errorf("%w: topic %s is changed, but not the copy beside its folders: %w", record.ErrStorage, t.name, err)
		s.Fail(err)
		return err
	}
	return nil
}

// parsePartitionDir reads the name of a partition's folder.
func parsePartitionDir(dir string) (name string, partition int32, ok bool) {
	i := strings.LastIndexByte(dir, '-')
	if i < 1 || i == len(dir)-1 || len(dir)-i > 10 {
		return "", 0, false
	}
	for _, c := range dir[i+1:] {
		if c < '0' || c > '9' {
			return "", 0, false
		}
		partition = partition*10 + int32(c-'0')
	}
	name = dir[:i]
	return name, partition, CheckName(name) == nil && fmt.Sprint(partition) == dir[i+1:]
}

// loadFolderID reads partition.metadata: the topic that a partition's folder is of.
// ok is false where the file does not say.
func loadFolderID(fsys vfs.FS, dir string) (id ID, ok bool, err error) {
	b, err := readFile(fsys, dir+"/"+metadataFile, maxIdentityBytes)
	if err != nil {
		return id, false, err
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if text, found := strings.CutPrefix(line, "topic_id: "); found {
			id, ok = parseID(text)
			return id, ok, nil
		}
	}
	return id, false, nil
}

// identify puts partition.metadata into a folder that gets its first segment. It
// is for Kafka's tools, and for a box that has lost everything else.
func (p *Partition) identify() error {
	b := p.takeIdentity()
	if b == nil {
		return nil
	}
	err := replaceFile(p.set.opts.FS, p.dir, metadataFile, b)
	p.identified = err == nil
	return err
}

// takeIdentity is the partition.metadata to be written; nil if it is there. It is asked
// for once.
func (p *Partition) takeIdentity() []byte {
	if p.identified {
		return nil
	}
	p.identified = true
	if _, ok, _ := loadFolderID(p.set.opts.FS, p.dir); ok {
		return nil
	}
	return p.folderID()
}

// folderID is partition.metadata as Kafka writes it.
func (p *Partition) folderID() []byte {
	return fmt.Appendf(nil, "version: 0\ntopic_id: %s\n", p.topic.id)
}
