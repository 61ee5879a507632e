package topic

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// What there is on the disk is compared with the Catalog before anything is
// replayed. The Catalog says how a topic is configured; that a topic exists is said
// by its folders too, so a Catalog that has forgotten it is told again.

// survey is what the folders say.
type survey struct {
	deleted    map[ID]discarded
	identities map[string]Entry    // by name, those that can be read
	folders    map[string][]string // of partitions, by topic
	leftovers  []string            // temporary files
	named      []string            // topics of which there is an identity
}

// surveyFolders looks at the names alone.
func (s *Set) surveyFolders() (*survey, error) {
	trash, err := s.trashed()
	if err != nil {
		return nil, err
	}
	names, err := s.opts.FS.List(topicsDir)
	if err != nil {
		return nil, fmt.Errorf("topic: list %s: %w", topicsDir, err)
	}
	v := &survey{deleted: map[ID]discarded{}, identities: map[string]Entry{}, folders: map[string][]string{}}
	for _, d := range trash {
		if d.name != "" {
			v.deleted[d.id] = d
		}
	}
	for _, file := range names {
		if name, ok := strings.CutSuffix(file, identitySuffix); ok {
			v.named = append(v.named, name)
		} else if name, _, ok := parsePartitionDir(file); ok {
			v.folders[name] = append(v.folders[name], file)
		} else if strings.HasSuffix(file, tmpSuffix) {
			v.leftovers = append(v.leftovers, file)
		}
	}
	return v, nil
}

func (s *Set) survey() (*survey, error) {
	v, err := s.surveyFolders()
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(v.named))
	err = inParallel(len(v.named), func(i int) error {
		e, err := loadIdentity(s.opts.FS, topicsDir, v.named[i])
		if errors.Is(err, errIdentity) {
			s.opts.Log.Error("a topic's identity is damaged", "topic", v.named[i], "err", err)
			return nil
		}
		entries[i] = e
		return err
	})
	for _, e := range entries {
		if e.Name != "" {
			v.identities[e.Name] = e
		}
	}
	return v, err
}

// reconcile makes one of what the Catalog and the folders say: the topics there
// are. It finishes what a crash has left half done.
func (s *Set) reconcile(catalog []Entry) ([]Entry, error) {
	v, err := s.survey()
	if err != nil {
		return nil, err
	}
	live := map[string]Entry{}
	for _, e := range catalog {
		if _, gone := v.deleted[e.ID]; !gone {
			live[e.Name] = e
		} else if err := s.opts.Catalog.DeleteTopic(e.Name); err != nil {
			return nil, err
		}
	}
	adopted := s.adopt(v, live)
	if len(adopted) > 0 {
		if err := putTopics(s.opts.Catalog, adopted); err != nil {
			return nil, err
		}
	}
	if err := s.tidy(v, live); err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(live), func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) }), nil
}

// adopt adds to live what only the folders know, and returns it.
func (s *Set) adopt(v *survey, live map[string]Entry) (adopted []Entry) {
	take := func(e Entry, from string) {
		live[e.Name] = e
		adopted = append(adopted, e)
		s.adopted++
		s.opts.Log.Warn("a topic was not in the metadata and is taken from the disk",
			slog.String("topic", e.Name), slog.String("id", e.ID.String()), slog.Int("partitions", int(e.Partitions)), slog.String("from", from))
	}
	for _, name := range slices.Sorted(maps.Keys(v.identities)) {
		e := v.identities[name]
		if _, gone := v.deleted[e.ID]; !gone && live[name].ID != e.ID {
			take(e, identityFile(name))
		}
		if known := live[name]; known.ID == e.ID && known.Partitions < e.Partitions {
			// Their number only grows, and the Catalog is told first: it is an old copy.
			known.Partitions = e.Partitions
			take(known, identityFile(name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.folders)) {
		if _, known := live[name]; known {
			continue
		}
		if e, ok := s.fromFolders(name, v.folders[name]); ok {
			if _, gone := v.deleted[e.ID]; !gone {
				take(e, metadataFile+"; its configs are lost")
			}
		}
	}
	return adopted
}

// fromFolders makes out a topic of which nothing is left but its partitions.
func (s *Set) fromFolders(name string, folders []string) (e Entry, ok bool) {
	e = Entry{Name: name, Internal: strings.HasPrefix(name, "__"), Created: s.opts.Now()}
	for _, folder := range folders {
		_, partition, _ := parsePartitionDir(folder)
		if id, has, _ := loadFolderID(s.opts.FS, topicsDir+"/"+folder); has {
			if ok && id != e.ID {
				s.opts.Log.Error("folders of one name are of two topics and stay as they are", "topic", name)
				return e, false
			}
			e.ID, ok = id, true
		}
		e.Partitions = max(e.Partitions, partition+1)
	}
	return e, ok && int(e.Partitions) <= s.opts.MaxPartitions
}

// tidy writes the identities that are missing or differ, and brings to the trash
// what a crash in Delete has left.
func (s *Set) tidy(v *survey, live map[string]Entry) error {
	var stale []Entry
	for _, e := range live {
		if !v.identities[e.Name].equal(e) {
			stale = append(stale, e)
		}
	}
	changed := len(stale) > 0 || len(v.leftovers) > 0
	if err := s.saveIdentities(stale); err != nil {
		return err
	}
	for _, file := range v.leftovers {
		if err := s.opts.FS.Remove(topicsDir + "/" + file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("topic: remove %s: %w", file, err)
		}
	}
	left := s.leftBehind(v.folders, v.deleted, func(name string) int32 { return live[name].Partitions })
	for id, d := range v.deleted {
		_, again := live[d.name] // then that is whose identity it is
		if e, both := v.identities[d.name]; both && e.ID == id && !again {
			left[id] = append(left[id], identityFile(d.name))
		}
		if err := s.collect(d, left[id]); err != nil {
			return err
		}
	}
	if changed {
		return s.syncTopics()
	}
	return nil
}

// putTopics gives a Catalog several entries, at once if it can take them so.
func putTopics(c Catalog, entries []Entry) error {
	if all, ok := c.(interface{ PutTopics([]Entry) error }); ok {
		return all.PutTopics(entries)
	}
	for _, e := range entries {
		if err := c.PutTopic(e); err != nil {
			return err
		}
	}
	return nil
}
