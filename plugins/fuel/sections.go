package fuel

import "strings"

// plusOne copies a section that is a vector and adds one entry.
func plusOne(r *reader, entry ...byte) []byte {
	n := r.u32()
	out := appendU32(make([]byte, 0, len(r.b)+len(entry)+1), n+1)
	out = append(out, r.rest()...)
	return append(out, entry...)
}

// globalVars adds the fuel. It is zero, so the first check asks for the first slice.
func (w *rewriter) globalVars(r *reader) []byte {
	n := r.count(len(r.b), "globals")
	out := appendU32(nil, n+1)
	for ; n > 0 && r.err == nil; n-- {
		out = append(out, r.bytes(2)...)
		out = w.constExpr(r, out)
	}
	return append(out, valI32, 1, opI32Const, 0, opEnd)
}

func (w *rewriter) tables(r *reader) []byte {
	n := r.count(MaxTables, "tables")
	out := appendU32(nil, n)
	for ; n > 0 && r.err == nil; n-- {
		out = append(out, r.byte())
		lo, hi, bounded := r.limits()
		if lo > MaxTableElements {
			r.fail("a table of %d elements, the limit is %d", lo, MaxTableElements)
		}
		if !bounded || hi > MaxTableElements {
			hi = MaxTableElements
		}
		out = appendU32(append(out, 1), lo)
		out = appendU32(out, hi)
	}
	return out
}

// memories and data are only checked: the engine trusts their counts.
func (w *rewriter) memories(r *reader) []byte {
	n := r.count(1, "memories")
	for ; n > 0 && r.err == nil; n-- {
		r.limits()
	}
	return r.b
}

func (w *rewriter) data(r *reader) []byte {
	n := r.count(len(r.b), "data segments")
	for ; n > 0 && r.err == nil; n-- {
		switch kind := r.u32(); kind {
		case 0:
			w.constExpr(r, nil)
		case 1: // passive
		default:
			r.fail("data segment of kind %d", kind)
		}
		r.bytes(r.u32())
	}
	return r.b
}

func (w *rewriter) exports(r *reader) []byte {
	n := r.count(len(r.b), "exports")
	out := appendU32(nil, n)
	for ; n > 0 && r.err == nil; n-- {
		out = appendName(out, string(r.bytes(r.u32())))
		kind, index := r.byte(), r.u32()
		if kind == 0 {
			index = w.fn(index)
		}
		out = appendU32(append(out, kind), index)
	}
	return out
}

// elements rewrites the segments in their eight forms: bit 0 passive or
// declarative, bit 1 explicit table (or declarative), bit 2 expressions instead
// of function indices.
func (w *rewriter) elements(r *reader) []byte {
	n := r.count(len(r.b), "element segments")
	out := appendU32(nil, n)
	for ; n > 0 && r.err == nil; n-- {
		flags := r.u32()
		if flags > 7 {
			r.fail("element segment of kind %d", flags)
		}
		out = appendU32(out, flags)
		if flags&1 == 0 {
			if flags&2 != 0 {
				out = appendU32(out, r.u32())
			}
			out = w.constExpr(r, out)
		}
		if flags&3 != 0 {
			out = append(out, r.byte()) // kind or type of the elements
		}
		items := r.count(len(r.b), "elements")
		out = appendU32(out, items)
		for ; items > 0 && r.err == nil; items-- {
			if flags&4 != 0 {
				out = w.constExpr(r, out)
			} else {
				out = appendU32(out, w.fn(r.u32()))
			}
		}
	}
	return out
}

// constExpr copies a constant expression.
func (w *rewriter) constExpr(r *reader, out []byte) []byte {
	for r.err == nil {
		start := r.pos
		switch op := r.byte(); op {
		case opEnd:
			return append(out, op)
		case opRefFunc:
			out = appendU32(append(out, op), w.fn(r.u32()))
			continue
		case opI32Const:
			r.leb(5)
		case opI64Const:
			r.leb(10)
		case opF32Const:
			r.bytes(4)
		case opF64Const:
			r.bytes(8)
		case opGlobalGet:
			r.u32()
		case opRefNull:
			r.byte()
		case opSIMD:
			if sub := r.u32(); sub != simdConst {
				r.fail("instruction 0xfd %d in a constant expression", sub)
			}
			r.bytes(16)
		default:
			r.fail("instruction 0x%x in a constant expression", op)
		}
		if r.err == nil {
			out = append(out, r.b[start:r.pos]...)
		}
	}
	return out
}

// custom rewrites the name section, drops what points into code, and keeps the
// rest. A broken custom section is no error, by the standard; it is dropped.
func (w *rewriter) custom(body []byte) []byte {
	r := &reader{b: body}
	name := string(r.bytes(r.u32()))
	switch {
	case r.err != nil, strings.HasPrefix(name, ".debug_"), strings.HasPrefix(name, "reloc."),
		name == "linking", name == "sourceMappingURL", name == "dylink.0", name == "metadata.code.branch_hint":
		return nil
	case name != "name":
		return body
	}
	out := appendName(make([]byte, 0, len(body)+len(body)/8), name)
	for r.more() {
		id := r.byte()
		sub := &reader{b: r.bytes(r.u32())}
		var names []byte
		switch id {
		case 1, 2: // names of functions, of locals by function
			names = w.functionNames(sub, id == 2)
		case 3: // labels, which the added code has renumbered
			continue
		default:
			names = sub.rest()
		}
		if sub.err != nil {
			return nil
		}
		out = appendU32(append(out, id), uint32(len(names)))
		out = append(out, names...)
	}
	if r.err != nil {
		return nil
	}
	return out
}

func (w *rewriter) functionNames(r *reader, locals bool) []byte {
	n := r.count(len(r.b), "names")
	out := appendU32(make([]byte, 0, len(r.b)+len(r.b)/8), n)
	for ; n > 0 && r.err == nil; n-- {
		out = appendU32(out, w.fn(r.u32()))
		if !locals {
			out = appendName(out, string(r.bytes(r.u32())))
			continue
		}
		m := r.count(len(r.b), "names")
		out = appendU32(out, m)
		for ; m > 0 && r.err == nil; m-- {
			out = appendU32(out, r.u32())
			out = appendName(out, string(r.bytes(r.u32())))
		}
	}
	if r.pos != len(r.b) {
		r.fail("bytes after the last name")
	}
	return out
}
