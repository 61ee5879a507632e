package plugins

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/vfs"
)

// storeDir is the folder of modules: NAME-VERSION-HASH.wasm, HASH being the start
// of its SHA-256, so that no install ever touches the file of another. The
// registry says which file a plugin is; the write to it is what installs.
const storeDir = "plugins"

const (
	moduleSuffix = ".wasm"
	tempSuffix   = ".new"
)

// entry is a plugin in the registry.
type entry struct {
	Version   string    `json:"version"`
	File      string    `json:"file"`
	SHA256    string    `json:"sha256"`
	Overrides Overrides `json:"overrides"`
	Deployed  time.Time `json:"deployed"`
}

// store keeps the modules and the registry.
type store struct {
	fs       vfs.FS
	registry Registry
}

func newStore(files vfs.FS, r Registry) (*store, error) {
	if err := files.MkdirAll(storeDir); err != nil {
		return nil, fmt.Errorf("plugins: %w", err)
	}
	if err := files.SyncDir("."); err != nil {
		return nil, fmt.Errorf("plugins: %w", err)
	}
	return &store{files, r}, nil
}

// load reads the registry and removes files that no entry names: what a power
// cut left of an install or a removal.
func (s *store) load() (map[string]entry, error) {
	all, err := s.registry.All()
	if err != nil {
		return nil, fmt.Errorf("plugins: registry: %w", err)
	}
	entries := map[string]entry{}
	named := map[string]bool{}
	for name, text := range all {
		var e entry
		if err := json.Unmarshal(text, &e); err != nil {
			return nil, fmt.Errorf("plugins: registry: entry %q: %w", name, err)
		}
		entries[name], named[e.File] = e, true
	}
	files, err := s.fs.List(storeDir)
	if err != nil {
		return nil, fmt.Errorf("plugins: %w", err)
	}
	for _, f := range files {
		if (strings.HasSuffix(f, moduleSuffix) || strings.HasSuffix(f, tempSuffix)) && !named[f] {
			if err := s.fs.Remove(path.Join(storeDir, f)); err != nil {
				return nil, fmt.Errorf("plugins: %w", err)
			}
		}
	}
	return entries, nil
}

// newEntry describes a module that is to be installed.
func newEntry(m *Manifest, module []byte, o Overrides) entry {
	sum := sha256.Sum256(module)
	hash := hex.EncodeToString(sum[:])
	return entry{
		Version: m.Version, File: m.Name + "-" + m.Version + "-" + hash[:12] + moduleSuffix,
		SHA256: hash, Overrides: o, Deployed: time.Now().UTC().Truncate(time.Second),
	}
}

// install makes module the plugin of that name: before the registry's Put it is
// the old one, after it the new one, whenever the power goes.
func (s *store) install(name string, e entry, module []byte) error {
	if err := s.write(e.File, module); err != nil {
		return fmt.Errorf("install %s: %w", name, err)
	}
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := s.registry.Put(name, text); err != nil {
		return fmt.Errorf("install %s: registry: %w", name, err)
	}
	return nil
}

func (s *store) write(name string, module []byte) error {
	final := path.Join(storeDir, name)
	temp := final + tempSuffix
	if err := s.fs.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := s.fs.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(module, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.fs.Rename(temp, final); err != nil {
		return err
	}
	return s.fs.SyncDir(storeDir)
}

// read returns an installed module, if it is still what was installed.
func (s *store) read(e entry) ([]byte, error) {
	f, err := s.fs.Open(path.Join(storeDir, e.File))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > MaxModuleBytes {
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", e.File, size, MaxModuleBytes)
	}
	module := make([]byte, size)
	if n, err := f.ReadAt(module, 0); n < len(module) {
		return nil, err
	}
	if sum := sha256.Sum256(module); hex.EncodeToString(sum[:]) != e.SHA256 {
		return nil, fmt.Errorf("%s is not what was installed: its SHA-256 differs; deploy the plugin again", e.File)
	}
	return module, nil
}

// remove uninstalls a plugin; its file is of no use from then on.
func (s *store) remove(name string, e entry) error {
	if err := s.registry.Delete(name); err != nil {
		return fmt.Errorf("remove %s: registry: %w", name, err)
	}
	return s.discard(e.File)
}

// discard removes a file that the registry does not name any more.
func (s *store) discard(file string) error {
	if err := s.fs.Remove(path.Join(storeDir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.fs.SyncDir(storeDir)
}
