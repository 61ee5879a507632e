package metadata

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strings"

	"github.com/weirmq/weir/appliance/vfs"
)

// propertiesFile says whose data directory this is, in the form of Kafka's
// meta.properties. Its first line is a comment to Kafka's tools and a CRC-32C of
// the rest to us. It is what is left of the cluster id when store and copy are lost.
const (
	propertiesFile    = "meta.properties"
	maxPropertiesSize = 4096
)

func properties(clusterID string) string {
	body := fmt.Sprintf("version=1\ncluster.id=%s\nnode.id=1\n", clusterID)
	return fmt.Sprintf("#crc32c=%08x\n%s", crc32.Checksum([]byte(body), castagnoli), body)
}

// loadProperties returns the file's cluster id; "" if there is none that can be
// trusted. found tells that there is a file at all.
func loadProperties(files vfs.FS) (clusterID string, found bool, err error) {
	f, err := files.Open(propertiesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > maxPropertiesSize {
		return "", true, err
	}
	b := make([]byte, size)
	if n, _ := f.ReadAt(b, 0); int64(n) < size {
		return "", true, nil
	}
	return parseProperties(string(b)), true, nil
}

func parseProperties(text string) (clusterID string) {
	for line := range strings.SplitSeq(text, "\n") {
		if id, ok := strings.CutPrefix(line, "cluster.id="); ok && properties(id) == text {
			return id
		}
	}
	return ""
}

// saveProperties makes the file say id, if it does not.
func saveProperties(files vfs.FS, id string) error {
	if old, _, err := loadProperties(files); err != nil || old == id {
		return err
	}
	staged := propertiesFile + stagedSuffix
	if err := files.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := files.Create(staged)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt([]byte(properties(id)), 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := files.Rename(staged, propertiesFile); err != nil {
		return err
	}
	return files.SyncDir(".")
}
