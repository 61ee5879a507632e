package topic

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/weirmq/weir/appliance/vfs"
)

// cleanPointFile says how far logs are cleaned. Without it, or with an old one, they
// are cleaned again; nothing else depends on it. It is text, one line each:
//
//	weir-cleaner 1
//	<topic id, hex> <partition> <first dirty offset> <time that a tombstone may go, ms>
//	crc <CRC-32C of the lines above, hex>
const (
	cleanPointFile  = "cleaner-offset-checkpoint"
	cleanPointFirst = "weir-cleaner 1\n"
)

var errCleanPoints = errors.New("topic: " + cleanPointFile + " is damaged")

func encodeCleanPoints(points map[partitionID]*cleanPoint) []byte {
	var b bytes.Buffer
	b.WriteString(cleanPointFirst)
	ids := make([]partitionID, 0, len(points))
	for id := range points {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y partitionID) int {
		if n := bytes.Compare(x.topic[:], y.topic[:]); n != 0 {
			return n
		}
		return int(x.partition) - int(y.partition)
	})
	for _, id := range ids {
		fmt.Fprintf(&b, "%x %d %d %d\n", id.topic[:], id.partition, points[id].dirty, points[id].horizon)
	}
	fmt.Fprintf(&b, "crc %08x\n", crc32.Checksum(b.Bytes(), castagnoli))
	return b.Bytes()
}

func decodeCleanPoints(text []byte) (map[partitionID]*cleanPoint, error) {
	at := bytes.LastIndex(text, []byte("crc "))
	if at < 0 || string(text[at:]) != fmt.Sprintf("crc %08x\n", crc32.Checksum(text[:at], castagnoli)) {
		return nil, errCleanPoints
	}
	lines, ok := strings.CutPrefix(string(text[:at]), cleanPointFirst)
	if !ok {
		return nil, errCleanPoints
	}
	points := map[partitionID]*cleanPoint{}
	for line := range strings.Lines(lines) {
		id, point, err := parseCleanPoint(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		points[id] = &point
	}
	return points, nil
}

func parseCleanPoint(line string) (id partitionID, point cleanPoint, err error) {
	words := strings.Split(line, " ")
	if len(words) != 4 || len(words[0]) != 2*len(id.topic) {
		return id, point, errCleanPoints
	}
	_, err = hex.Decode(id.topic[:], []byte(words[0]))
	var n [3]int64
	for i := range n {
		var bad error
		n[i], bad = strconv.ParseInt(words[i+1], 10, 64)
		err = errors.Join(err, bad)
	}
	if err != nil || n[0] < 0 || n[0] > math.MaxInt32 || n[1] < 0 || n[2] < 0 {
		return id, point, errCleanPoints
	}
	id.partition, point.dirty, point.horizon = int32(n[0]), n[1], n[2]
	return id, point, nil
}

// loadCleanPoints reads the file; none is no error.
func loadCleanPoints(fsys vfs.FS) (map[partitionID]*cleanPoint, error) {
	f, err := fsys.Open(cleanPointFile)
	if errors.Is(err, fs.ErrNotExist) {
		return map[partitionID]*cleanPoint{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("topic: open %s: %w", cleanPointFile, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("topic: size of %s: %w", cleanPointFile, err)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); int64(n) < size && err != io.EOF {
		return nil, fmt.Errorf("topic: read %s: %w", cleanPointFile, err)
	}
	return decodeCleanPoints(b)
}

// save writes the file if something has changed, without those that are gone.
func (c *cleaner) save() error {
	c.mu.Lock()
	if c.saved || len(c.points) == 0 {
		c.mu.Unlock()
		return nil
	}
	keep := map[partitionID]*cleanPoint{}
	for id, point := range c.points {
		if t := c.set.ByID(id.topic); t != nil {
			keep[id] = point
		}
	}
	c.points, c.saved = keep, true
	text := encodeCleanPoints(keep)
	c.mu.Unlock()
	err := replaceFile(c.set.opts.FS, ".", cleanPointFile, text)
	if err != nil {
		c.note(func(*CleanerStatus) { c.saved = false })
	}
	return err
}
