package plugins

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/weirmq/weir/plugins/abi"
)

// ErrNoManifest is returned for a module without the custom section that holds
// the manifest.
var ErrNoManifest = errors.New("the module has no custom section \"" + abi.Section + "\"; pack a manifest into it with weir plugin pack")

// errModule is wrapped by errors about the module's outer structure.
var errModule = errors.New("not a WebAssembly module")

var wasmHeader = []byte{0, 'a', 's', 'm', 1, 0, 0, 0}

// span is where a section lies in a module, its head included.
type span struct {
	start, end int
	custom     string // name of a custom section
	payload    []byte // what follows the name
}

// nextSection reads the head of the section at pos, and a custom section's name.
// It looks into no other section.
func nextSection(module []byte, pos int) (span, error) {
	size, body, err := sectionLen(module, pos+1)
	if err != nil {
		return span{}, fmt.Errorf("%w: section at byte %d: %w", errModule, pos, err)
	}
	s := span{start: pos, end: body + size}
	if module[pos] != 0 {
		return s, nil
	}
	n, name, err := sectionLen(module[:s.end], body)
	if err != nil {
		return span{}, fmt.Errorf("%w: name of the section at byte %d: %w", errModule, pos, err)
	}
	s.custom, s.payload = string(module[name:name+n]), module[name+n:s.end]
	return s, nil
}

// sectionLen reads an unsigned LEB128 at pos, of at most 32 bits, and checks that
// so many bytes follow.
func sectionLen(b []byte, pos int) (size, next int, err error) {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		if pos >= len(b) {
			return 0, 0, errors.New("it is cut short")
		}
		c := b[pos]
		pos++
		v |= uint64(c&0x7f) << shift
		if c >= 0x80 {
			continue
		}
		if v > uint64(len(b)-pos) {
			return 0, 0, fmt.Errorf("%d bytes are said to follow, %d do", v, len(b)-pos)
		}
		return int(v), pos, nil
	}
	return 0, 0, errors.New("its length is no number of 32 bits")
}

// manifestSections finds the sections named abi.Section.
func manifestSections(module []byte) ([]span, error) {
	if !bytes.HasPrefix(module, wasmHeader) {
		return nil, fmt.Errorf("%w: it does not start with \"\\0asm\" and version 1", errModule)
	}
	var found []span
	for pos := len(wasmHeader); pos < len(module); {
		s, err := nextSection(module, pos)
		if err != nil {
			return nil, err
		}
		if s.custom == abi.Section {
			found = append(found, s)
		}
		pos = s.end
	}
	return found, nil
}

// Unpack returns the manifest's bytes from a module. It executes nothing and
// aliases module.
func Unpack(module []byte) ([]byte, error) {
	found, err := manifestSections(module)
	if err != nil {
		return nil, err
	}
	switch len(found) {
	case 0:
		return nil, ErrNoManifest
	case 1:
		return found[0].payload, nil
	}
	return nil, fmt.Errorf("the module has %d custom sections %q, one is allowed", len(found), abi.Section)
}

// Pack returns a copy of module with the manifest as its custom section, in place
// of the one it may have. The manifest is checked.
func Pack(module, manifest []byte) ([]byte, error) {
	if _, err := ParseManifest(manifest); err != nil {
		return nil, err
	}
	found, err := manifestSections(module)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(module)+len(manifest)+32)
	pos := 0
	for _, s := range found {
		out = append(out, module[pos:s.start]...)
		pos = s.end
	}
	out = append(out, module[pos:]...)
	body := append(appendLen(nil, len(abi.Section)), abi.Section...)
	body = append(body, manifest...)
	out = appendLen(append(out, 0), len(body))
	return append(out, body...), nil
}

func appendLen(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}
