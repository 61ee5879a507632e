package crashfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// CloneConfig says what a power cut leaves of that which is not durable.
type CloneConfig struct {
	// Keep is the chance in percent that each unsynced block, size and name is
	// kept: 0 leaves what is durable, 100 what a killed process leaves.
	Keep int
	// Torn is the chance in percent that a block that is kept is torn: each of its
	// 512-byte sectors is kept or lost by itself.
	Torn int
	// Rand decides; nil is allowed where nothing is left to chance: Keep is 0, or
	// Keep is 100 and Torn 0. Two clones of one disk by Rands of one seed are equal.
	Rand *rand.Rand
	// Write names a file whose newest write the power cut came into: of that write
	// the first Prefix bytes are kept and the rest is lost, while Keep and Torn
	// decide about everything else. It changes nothing once the write is durable.
	Write  string
	Prefix int
}

func (cfg CloneConfig) kept() bool { return cfg.chance(cfg.Keep) }
func (cfg CloneConfig) torn() bool { return cfg.chance(cfg.Torn) }
func (cfg CloneConfig) chance(percent int) bool {
	return percent >= 100 || percent > 0 && cfg.Rand.IntN(100) < percent
}

// Clone returns the disk as a power cut at this moment would leave it: a file
// system of its own, without hooks, on which all is durable. f goes on unharmed.
func (f *FS) Clone(cfg CloneConfig) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := &cloner{cfg: cfg, names: map[*node]map[string]*node{}, nodes: map[*node]*node{}}
	if cfg.Write != "" {
		k.cut, _ = f.find(cfg.Write)
	}
	for _, c := range f.pending {
		if !cfg.kept() {
			continue
		}
		for _, e := range c.edits {
			e.apply(k.of(e.dir))
		}
	}
	return &FS{root: k.clone(f.root)}
}

// Killed returns the disk as the death of the process alone leaves it: all that
// was written is there, but what was not durable still is not. A power cut that
// follows is a Clone of it. f goes on unharmed.
func (f *FS) Killed() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	nodes := map[*node]*node{}
	var twin func(n *node) *node
	twin = func(n *node) *node {
		if n == nil || nodes[n] != nil {
			return nodes[n]
		}
		out := &node{data: n.data.clone()}
		nodes[n] = out
		if n.names != nil {
			out.names, out.durable = map[string]*node{}, map[string]*node{}
			for name, to := range n.names {
				out.names[name] = twin(to)
			}
			for name, to := range n.durable {
				out.durable[name] = twin(to)
			}
		}
		return out
	}
	out := &FS{root: twin(f.root)}
	for _, c := range f.pending {
		edits := slices.Clone(c.edits)
		for i := range edits {
			edits[i].dir, edits[i].to = twin(edits[i].dir), twin(edits[i].to)
		}
		out.pending = append(out.pending, change{edits})
	}
	return out
}

func (c *content) clone() content {
	out := *c
	out.live, out.durable = slices.Clone(c.live), slices.Clone(c.durable)
	out.dirty, out.sizes = maps.Clone(c.dirty), slices.Clone(c.sizes)
	out.versions = maps.Clone(c.versions)
	for i, v := range out.versions {
		out.versions[i] = slices.Clone(v)
	}
	return out
}

type cloner struct {
	cfg   CloneConfig
	names map[*node]map[string]*node // what is left of each folder with pending edits
	nodes map[*node]*node
	cut   *node // the file in whose newest write the power went
}

func (k *cloner) of(dir *node) map[string]*node {
	if k.names[dir] == nil {
		k.names[dir] = maps.Clone(dir.durable)
	}
	return k.names[dir]
}

func (k *cloner) clone(n *node) *node {
	if done := k.nodes[n]; done != nil {
		return done // a file that is left with two names
	}
	out := &node{}
	k.nodes[n] = out
	if n.names == nil {
		if n == k.cut && n.data.last.n > 0 {
			out.data = k.cfg.within(&n.data)
		} else {
			out.data = k.cfg.content(&n.data)
		}
		return out
	}
	left := k.of(n)
	out.names = make(map[string]*node, len(left))
	for _, name := range sortedNames(left) { // sorted: Rand is used in one order
		out.names[name] = k.clone(left[name])
	}
	out.durable = maps.Clone(out.names)
	return out
}

// content is what is left of one file. Of each block and of the size, the newest
// version that is kept counts; what is durable is always kept.
func (cfg CloneConfig) content(c *content) content {
	size := c.durableSize
	for _, s := range slices.Backward(c.sizes) {
		if cfg.kept() {
			size = s
			break
		}
	}
	blocks := slices.Clone(c.durable)
	for _, i := range slices.Sorted(maps.Keys(c.versions)) {
		for len(blocks) <= i {
			blocks = append(blocks, nil)
		}
		for _, b := range slices.Backward(c.versions[i]) {
			if cfg.kept() {
				blocks[i] = cfg.tear(blocks[i], b)
				break
			}
		}
	}
	out := content{live: blocks, liveSize: size}
	out.truncate(size) // zeroes what lies past the end
	return content{live: out.live, durable: slices.Clone(out.live), liveSize: size, durableSize: size}
}

// within is what is left of a file when the power goes in its newest write.
func (cfg CloneConfig) within(c *content) content {
	before := c.clone()
	at, n := c.last.at, min(int64(cfg.Prefix), int64(c.last.n))
	for i := int(at / blockSize); i <= int((at+int64(c.last.n)-1)/blockSize); i++ {
		if v := before.versions[i]; len(v) > 0 {
			before.versions[i] = v[:len(v)-1]
		}
	}
	if c.last.grew {
		before.sizes = before.sizes[:len(before.sizes)-1]
	}
	out := cfg.content(&before)
	prefix := make([]byte, n)
	_, _ = c.read(prefix, at) // no further than what was written
	out.write(prefix, at)
	return content{live: out.live, durable: slices.Clone(out.live), liveSize: out.liveSize, durableSize: out.liveSize}
}

// tear returns b, or a mixture of the sectors of old and b.
func (cfg CloneConfig) tear(old, b *block) *block {
	if !cfg.torn() {
		return b
	}
	var zero, mixed block
	if old == nil {
		old = &zero
	}
	if b == nil {
		b = &zero
	}
	mixed = *old
	for at := 0; at < blockSize; at += sectorSize {
		if cfg.Rand.IntN(2) == 0 {
			copy(mixed[at:at+sectorSize], b[at:])
		}
	}
	return &mixed
}
