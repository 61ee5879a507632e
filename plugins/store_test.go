package plugins_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weirmq/weir/plugins"
	"github.com/weirmq/weir/testbed/crashfs"
)

// Wherever the power goes while a plugin is replaced, the box comes back with the
// old one or the new one, whole.
func TestInstallSurvivesPowerCuts(t *testing.T) {
	disk := crashfs.New()
	b := newBox(t, disk)
	version := func(v string) []byte { return module(t, "identity", "p", func(m *plugins.Manifest) { m.Version = v }) }
	h := b.host(nil)
	deploy(t, h, version("1.0.0"))

	type cut struct {
		disk     *crashfs.FS
		registry frozen
	}
	var cuts []cut
	rng := rand.New(rand.NewPCG(1, 2))
	disk.OnOp(nil, func(op crashfs.Op) {
		if op.Changes() && (strings.HasPrefix(op.Name, "plugins")) {
			all, err := b.store.Bucket("plugins").All()
			if err != nil {
				t.Error(err)
			}
			for _, keep := range []int{0, 50, 100} {
				cuts = append(cuts, cut{disk.Clone(crashfs.CloneConfig{Rand: rng, Keep: keep}), all})
			}
		}
	})
	deploy(t, h, version("1.0.1"))
	disk.OnOp(nil, nil)
	if len(cuts) < 15 {
		t.Fatalf("%d cuts", len(cuts))
	}
	seen := map[string]int{}
	for i, c := range cuts {
		after := b.host(func(o *plugins.Options) { o.FS, o.Registry = c.disk, c.registry })
		b.wait("it is loaded", func() bool { return after.List()[0].State != plugins.StateStarting })
		info := after.List()[0]
		if info.State != plugins.StateWaiting {
			t.Errorf("cut %d: %s %s: %s", i, info.Version, info.State, info.Error)
		}
		seen[info.Version]++
		if files, _ := c.disk.List("plugins"); len(files) != 1 {
			t.Errorf("cut %d: files %v", i, files)
		}
		if err := after.Close(); err != nil {
			t.Error(err)
		}
	}
	if seen["1.0.0"] == 0 || seen["1.0.1"] == 0 {
		t.Errorf("seen %v", seen)
	}
}

// A file that was changed behind the host's back does not run.
func TestAlteredModule(t *testing.T) {
	b := newBox(t, nil)
	h := b.host(nil)
	deploy(t, h, module(t, "identity", "p", nil))
	h.Close()
	names, err := b.fs.List("plugins")
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	f, err := b.fs.Open("plugins/" + names[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{1}, 40)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	h = b.host(nil)
	b.wait("it is refused", func() bool { return h.List()[0].State == plugins.StateFailed })
	if i := h.List()[0]; !strings.Contains(i.Error, "is not what was installed") {
		t.Errorf("info %+v", i)
	}
	deploy(t, h, module(t, "identity", "p", nil))
	if i := h.List()[0]; i.State != plugins.StateWaiting || i.Error != "" {
		t.Errorf("deployed again: %+v", i)
	}
}

// frozen is a registry as it was.
type frozen map[string][]byte

func (f frozen) All() (map[string][]byte, error) { return f, nil }
func (f frozen) Put(string, []byte) error        { return errors.New("frozen") }
func (f frozen) Delete(string) error             { return errors.New("frozen") }
