// Package fuel rewrites a WebAssembly module so that it can be stopped.
//
// Compiled WebAssembly has no point at which Go could interrupt it: a guest that
// loops keeps its thread, and the next garbage collection waits for it with the
// whole process. The engine's own remedy leaves compiled code at every loop
// iteration and costs 4 to 17 times the speed. Here the module itself counts:
//
//   - one mutable global, the fuel that is left, and one import
//     (abi.ImportModule, abi.ImportFuel), () -> i32, that gives the next slice;
//   - at every function entry and every loop head, fuel -= weight, and when it is
//     below zero, fuel = import(). The weight is 1 plus a 64th of the code's bytes
//     up to the matching end, so that long straight code is paid for;
//   - before memory.copy, memory.fill and their like, fuel -= length/64;
//   - before memory.grow and table.grow the import is called at once, because
//     growing may copy everything there is.
//
// The host's import looks at the clock and panics when the guest's time is up,
// and is itself a point where Go can stop the goroutine. Between two calls of it
// a guest does a bounded amount of work.
//
// The import becomes the last imported function, so every index of a function of
// the module itself grows by one: in calls, ref.func, exports, elements, start
// and the name section. The global is the last, so no index of a global changes.
// What the engine would make room for on the word of a count is checked first.
// Tables without a limit get MaxTableElements, as host memory stands behind them.
// Sections with debugging data, which point into the old code, are dropped.
package fuel

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weirmq/weir/plugins/abi"
)

// Limits on what is rewritten.
const (
	MaxModuleBytes   = 32 << 20
	MaxTableElements = 1 << 17 // in each table
	MaxTables        = 4
	MaxLocals        = 50_000 // in each function, as in browsers
	MaxFunctions     = 200_000
)

// ErrInvalid is wrapped by all errors of Rewrite: the module is not valid, uses
// what the engine has not enabled, or is over a limit.
var ErrInvalid = errors.New("not a usable WebAssembly module")

// section numbers of the binary format.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
)

// order is the place of each section in a module; custom sections are anywhere.
var order = [...]int{secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secGlobal: 6,
	secExport: 7, secStart: 8, secElement: 9, secDataCount: 10, secCode: 11, secData: 12}

var magic = []byte{0, 'a', 's', 'm', 1, 0, 0, 0}

type section struct {
	id   byte
	body []byte
}

// rewriter is one module on its way.
type rewriter struct {
	out       []byte
	types     []int    // number of parameters of each type
	fuelType  uint32   // type () -> i32
	imported  uint32   // imported functions, before ours
	functions []uint32 // type of each function of the module itself
	globals   uint32   // imported and own: the index of ours
}

// Rewrite returns a copy of module that asks for fuel. module is not changed.
func Rewrite(module []byte) ([]byte, error) {
	sections, err := split(module)
	if err != nil {
		return nil, err
	}
	w := &rewriter{out: make([]byte, 0, len(module)+len(module)/2)}
	if err := w.survey(sections); err != nil {
		return nil, err
	}
	w.out = append(w.out, magic...)
	for _, s := range withRequired(sections) {
		body, err := w.section(s)
		if err != nil {
			return nil, err
		}
		if body == nil {
			continue
		}
		w.out = append(w.out, s.id)
		w.out = appendU32(w.out, uint32(len(body)))
		w.out = append(w.out, body...)
	}
	return w.out, nil
}

// split cuts a module into its sections and checks their order.
func split(module []byte) ([]section, error) {
	if len(module) > MaxModuleBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrInvalid, len(module), MaxModuleBytes)
	}
	if len(module) < len(magic) || !slices.Equal(module[:len(magic)], magic) {
		return nil, fmt.Errorf("%w: it does not start with \"\\0asm\" and version 1; components are not supported", ErrInvalid)
	}
	var out []section
	last := 0
	for r := (reader{b: module, pos: len(magic)}); r.pos < len(r.b); {
		id := r.byte()
		body := r.bytes(r.u32())
		if r.err != nil {
			return nil, r.err
		}
		if id != secCustom {
			if int(id) >= len(order) {
				return nil, fmt.Errorf("%w: unknown section %d", ErrInvalid, id)
			}
			if order[id] <= last {
				return nil, fmt.Errorf("%w: section %d out of order", ErrInvalid, id)
			}
			last = order[id]
		}
		out = append(out, section{id, body})
	}
	return out, nil
}

// withRequired adds, in their places, the sections that the rewriting adds to, if
// the module has none.
func withRequired(sections []section) []section {
	for _, id := range []byte{secType, secImport, secGlobal} {
		if slices.ContainsFunc(sections, func(s section) bool { return s.id == id }) {
			continue
		}
		at := slices.IndexFunc(sections, func(s section) bool { return s.id != secCustom && order[s.id] > order[id] })
		if at < 0 {
			at = len(sections)
		}
		sections = slices.Insert(sections, at, section{id, []byte{0}})
	}
	return sections
}

// survey reads what the rewriting of a section must know of the others.
func (w *rewriter) survey(sections []section) error {
	for _, s := range sections {
		r := &reader{b: s.body}
		switch s.id {
		case secType:
			w.surveyTypes(r)
		case secImport:
			w.surveyImports(r)
		case secFunction:
			for n := r.count(MaxFunctions, "functions"); n > 0 && r.err == nil; n-- {
				t := r.u32()
				if int64(t) >= int64(len(w.types)) {
					return fmt.Errorf("%w: a function of type %d, there are %d types", ErrInvalid, t, len(w.types))
				}
				w.functions = append(w.functions, t)
			}
		case secGlobal:
			w.globals += r.u32()
		}
		if r.err != nil {
			return r.err
		}
	}
	w.fuelType = uint32(len(w.types))
	return nil
}

func (w *rewriter) surveyTypes(r *reader) {
	for n := r.count(len(r.b), "types"); n > 0 && r.err == nil; n-- {
		if form := r.byte(); form != 0x60 {
			r.fail("type form 0x%x is not supported", form)
			return
		}
		params := r.bytes(r.u32())
		r.bytes(r.u32())
		w.types = append(w.types, len(params))
	}
}

func (w *rewriter) surveyImports(r *reader) {
	for n := r.count(len(r.b), "imports"); n > 0 && r.err == nil; n-- {
		module, name := r.bytes(r.u32()), r.bytes(r.u32())
		switch kind := r.byte(); kind {
		case 0:
			w.imported++
			r.u32()
			if string(module) == abi.ImportModule && string(name) == abi.ImportFuel {
				r.fail("it imports %s.%s, which is the host's own", module, name)
			}
		case 1:
			r.byte()
			r.limits()
		case 2:
			r.limits()
		case 3:
			w.globals++
			r.bytes(2)
		default:
			r.fail("import kind %d is not supported", kind)
		}
	}
}

// fn is the new index of function i.
func (w *rewriter) fn(i uint32) uint32 {
	if i >= w.imported {
		return i + 1
	}
	return i
}

// section rewrites one section; nil leaves it out.
func (w *rewriter) section(s section) ([]byte, error) {
	r := &reader{b: s.body}
	var out []byte
	switch s.id {
	case secCustom:
		return w.custom(s.body), nil
	case secType:
		out = plusOne(r, 0x60, 0, 1, valI32)
	case secImport:
		entry := appendName(appendName(nil, abi.ImportModule), abi.ImportFuel)
		entry = appendU32(append(entry, 0), w.fuelType)
		out = plusOne(r, entry...)
	case secGlobal:
		out = w.globalVars(r)
	case secTable:
		out = w.tables(r)
	case secExport:
		out = w.exports(r)
	case secStart:
		out = appendU32(nil, w.fn(r.u32()))
	case secElement:
		out = w.elements(r)
	case secCode:
		out = w.code(r)
	case secMemory:
		out = w.memories(r)
	case secData:
		out = w.data(r)
	default:
		return s.body, nil
	}
	if r.err != nil {
		return nil, fmt.Errorf("section %d: %w", s.id, r.err)
	}
	if r.pos != len(r.b) {
		return nil, fmt.Errorf("%w: section %d: %d bytes after its end", ErrInvalid, s.id, len(r.b)-r.pos)
	}
	return out, nil
}
