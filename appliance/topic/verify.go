package topic

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
)

// Finding is something that Verify does not like.
type Finding struct {
	Kind  string `json:"kind"` // wal, identity, state, batches, index
	File  string `json:"file"`
	From  int64  `json:"from_byte"`
	To    int64  `json:"to_byte"`
	First int64  `json:"first_offset"` // of lost records; -1 when there are none
	Last  int64  `json:"last_offset"`
	Text  string `json:"problem"`
	Known bool   `json:"known"` // the appliance has told of it already, and steps over it
	Mend  string `json:"mend"`  // what Repair does about it; empty: the next start deals with it
}

// Kinds of findings.
const (
	findingWAL      = "wal"
	findingIdentity = "identity"
	findingState    = "state"
	findingBatches  = "batches"
	findingIndex    = "index"
)

// Verified is what Verify has looked at, and found.
type Verified struct {
	Partitions int       `json:"partitions"`
	Segments   int       `json:"segments"`
	Batches    int64     `json:"batches"`
	Bytes      int64     `json:"bytes"`
	Rounds     uint64    `json:"wal_rounds"` // to be replayed at the next start
	Findings   []Finding `json:"findings"`
}

// Verify reads a whole data folder, or its partitions whose folders only names, and
// changes nothing: the CRCs of all batches, their offsets, what is remembered of each
// segment, the indexes, the identity of folders and the rounds of the write-ahead log.
// What the write-ahead log has yet to bring to the segments is not looked for there.
func Verify(fsys vfs.FS, only ...string) (Verified, error) {
	v := Verified{Findings: []Finding{}}
	folders, err := fsys.List(topicsDir)
	if err != nil {
		return v, fmt.Errorf("topic: %w", err)
	}
	replayed := map[identity]int64{} // where the write-ahead log begins
	if err := v.wal(fsys, replayed); err != nil {
		return v, err
	}
	marks := map[identity]watermark{}
	b, err := readFile(fsys, walDir+"/"+watermarkFile, maxWatermarkBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return v, err
	}
	decodeWatermarks(b, func(id identity, w watermark) { marks[id] = w })
	if len(b)%watermarkLen != 0 {
		v.add(Finding{Kind: findingState, File: walDir + "/" + watermarkFile, To: int64(len(b)), Text: "it ends within an entry"})
	}
	for _, folder := range folders {
		if !wanted(folder, only) {
			continue
		}
		if err := v.partition(fsys, folder, marks, replayed); err != nil {
			return v, err
		}
	}
	return v, nil
}

func wanted(folder string, only []string) bool {
	if _, ok := partitionOf(folder); !ok {
		return false
	}
	for _, name := range only {
		if name == folder {
			return true
		}
	}
	return len(only) == 0
}

// partitionOf is the number at the end of a partition's folder; ok is false for a
// folder that is none, or was set aside.
func partitionOf(folder string) (int32, bool) {
	i := strings.LastIndexByte(folder, '-')
	if i <= 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(folder[i+1:], 10, 32)
	return int32(n), err == nil && n >= 0
}

func (v *Verified) add(f Finding) {
	if f.First == 0 && f.Last == 0 {
		f.First, f.Last = -1, -1
	}
	v.Findings = append(v.Findings, f)
}

func (v *Verified) wal(fsys vfs.FS, begin map[identity]int64) error {
	rounds, damage, err := wal.Verify(fsys, walDir, func(b []byte) error {
		e, err := parseEntry(b)
		if err != nil || e.kind != entryAppend {
			return err
		}
		id := identity{e.id, e.partition}
		if _, ok := begin[id]; !ok {
			begin[id] = e.batch.BaseOffset()
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		v.add(Finding{Kind: findingWAL, File: walDir, Text: "the folder is missing"})
		return nil
	}
	v.Rounds = rounds
	for _, d := range damage {
		text := d.Cause
		if d.First > 0 && d.Last >= d.First {
			text = fmt.Sprintf("%s: rounds %d to %d are lost", d.Cause, d.First, d.Last)
		}
		v.add(Finding{Kind: findingWAL, File: walDir + "/" + d.File, From: d.From, To: d.To, Text: text})
	}
	return err
}

// partition verifies one folder.
func (v *Verified) partition(fsys vfs.FS, folder string, marks map[identity]watermark, replayed map[identity]int64) error {
	v.Partitions++
	dir := topicsDir + "/" + folder
	number, _ := partitionOf(folder)
	id, named, err := loadFolderID(fsys, dir)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	if missing {
		if name, _, ok := parsePartitionDir(folder); ok {
			e, _ := loadIdentity(fsys, topicsDir, name)
			id = e.ID
		}
	}
	owner := identity{id, number}
	if !named && !missing { // it comes with the first checkpoint
		v.add(Finding{Kind: findingIdentity, File: dir + "/" + metadataFile, Text: "it does not say whose folder this is"})
	}
	st, err := loadState(fsys, dir, owner)
	if err != nil && !errors.Is(err, errState) {
		return err
	}
	mark := marks[owner]
	switch {
	case err != nil:
		v.add(Finding{Kind: findingState, File: dir + "/" + stateFile, Text: "it is damaged", Mend: "set aside; the next start rebuilds it from the batches"})
		st = nil
	case !named:
		owner, mark = st.owner, marks[st.owner]
	case st.owner != owner:
		v.add(Finding{Kind: findingIdentity, File: dir + "/" + stateFile, Text: "it is another partition's"})
		st = nil
	case st.generation < mark.generation:
		v.add(Finding{Kind: findingState, File: dir + "/" + stateFile, Text: "it is an old copy, or missing"})
		st = nil
	}
	p := &Partition{topic: &Topic{id: owner.topic}, state: st, recovered: recovered{mark: mark}}
	if st == nil {
		p.state = newState(owner)
		p.state.rebuild, p.state.logStart = true, mark.logStart
	}
	c, err := commitlog.Check(commitlog.Options{FS: fsys, Dir: dir, Start: p.state.logStart, Known: p.known, Epochs: p.epochsAt, Dense: !p.state.rebuild})
	if err != nil {
		return err
	}
	begin, ok := replayed[owner]
	if !ok {
		begin = math.MaxInt64
	}
	v.log(dir, c, begin, p.state)
	if c.End < mark.end && c.End < begin {
		v.add(Finding{Kind: findingBatches, File: dir, First: c.End, Last: mark.end - 1, Text: fmt.Sprintf("the log ends at offset %d, it had reached %d", c.End, mark.end)})
	}
	return nil
}

// log enters what was found of a log. What lies behind begin the write-ahead log
// brings at the next start.
func (v *Verified) log(dir string, c commitlog.Checked, begin int64, st *state) {
	v.Segments, v.Batches, v.Bytes = v.Segments+c.Segments, v.Batches+c.Batches, v.Bytes+c.Bytes
	for _, d := range c.Damage {
		if d.First >= begin {
			continue
		}
		f := Finding{Kind: findingBatches, File: dir + "/" + commitlog.FileName(d.Segment), From: d.From, To: d.To, First: d.First, Last: d.Next - 1, Text: d.Cause}
		f.Known = st.knowsLost(d)
		if d.First >= d.Next {
			f.First, f.Last = -1, -1
		}
		if d.From < d.To {
			f.Mend = "a copy of the bytes in " + quarantineDir
		}
		v.Findings = append(v.Findings, f)
	}
	for _, x := range c.Indexes {
		v.add(Finding{Kind: findingIndex, File: x.File, Text: x.Err.Error(), Mend: "set aside; it is rebuilt when it is needed"})
	}
}

// Repair does what the findings of Verify call for, and says what it did. It removes
// no bytes: it copies those that make no sense to the quarantine, and moves there what
// is rebuilt. The Set must not be open.
func Repair(fsys vfs.FS, findings []Finding) (done []string, err error) {
	for _, f := range findings {
		if f.Mend == "" {
			continue
		}
		text, err := repair(fsys, f)
		if err != nil {
			return done, fmt.Errorf("topic: repair %s: %w", f.File, err)
		}
		done = append(done, text)
	}
	return done, nil
}

func repair(fsys vfs.FS, f Finding) (string, error) {
	dir, name := path.Split(f.File)
	dir = strings.TrimSuffix(dir, "/")
	as := path.Base(dir) + "-" + name
	if f.Kind != findingBatches {
		to, err := vfs.SetAside(fsys, dir, name, quarantineDir, as)
		return fmt.Sprintf("%s: moved to %s/%s", f.File, quarantineDir, to), err
	}
	as = fmt.Sprintf("%s-%d-%d", as, f.From, f.To)
	src, err := fsys.Open(f.File)
	if err != nil {
		return "", err
	}
	defer src.Close()
	err = vfs.Keep(fsys, quarantineDir, as, src, f.From, f.To-f.From)
	return fmt.Sprintf("%s: bytes %d to %d copied to %s/%s; the next start steps over them", f.File, f.From, f.To, quarantineDir, as), err
}
