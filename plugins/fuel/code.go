package fuel

// Opcodes of WebAssembly 2.0 that the rewriting looks at.
const (
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opCall         = 0x10
	opCallIndirect = 0x11
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableSet     = 0x26
	opFirstLoad    = 0x28
	opLastStore    = 0x3e
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opFirstPlain   = 0x45
	opI32LtS       = 0x48
	opI32Sub       = 0x6b
	opI32ShrU      = 0x76
	opLastPlain    = 0xc4
	opRefNull      = 0xd0
	opRefIsNull    = 0xd1
	opRefFunc      = 0xd2
	opMisc         = 0xfc
	opSIMD         = 0xfd

	valI32    = 0x7f
	blockVoid = 0x40
	simdConst = 12
)

// bytesPerUnitShift: 64 bytes of code, or copied or filled, cost one unit of fuel.
const bytesPerUnitShift = 6

// frame is an open block. Those that were charged for are loops and the function itself.
type frame struct {
	start   int // in the old code
	patch   int // where the weight stands in the new code
	charged bool
}

// function is one function being rewritten.
type function struct {
	w      *rewriter
	r      *reader
	out    []byte
	copied int    // the old code up to here is in out
	local  uint32 // our scratch variable
	frames []frame
}

func (w *rewriter) code(r *reader) []byte {
	n := r.count(MaxFunctions, "function bodies")
	if int(n) != len(w.functions) {
		r.fail("%d function bodies, %d functions", n, len(w.functions))
	}
	out := appendU32(make([]byte, 0, len(r.b)+len(r.b)/2), n)
	f := function{w: w}
	for i := 0; i < int(n) && r.err == nil; i++ {
		f.r = &reader{b: r.bytes(r.u32())}
		f.rewrite(w.types[w.functions[i]])
		if f.r.err != nil {
			r.err = f.r.err
			break
		}
		out = appendU32(out, uint32(len(f.out)))
		out = append(out, f.out...)
	}
	return out
}

func (f *function) rewrite(params int) {
	f.out, f.frames = f.out[:0], f.frames[:0]
	f.locals(params)
	f.copied = f.r.pos
	f.open(true)
	for f.r.err == nil && len(f.frames) > 0 {
		f.instruction()
	}
	if f.r.err == nil && f.r.pos != len(f.r.b) {
		f.r.fail("code after the end of a function")
	}
	f.flush(f.r.pos)
}

// locals copies the declarations and adds our scratch variable, the last.
func (f *function) locals(params int) {
	groups := f.r.count(MaxLocals, "groups of locals")
	start, total := f.r.pos, uint64(params)
	for range groups {
		total += uint64(f.r.u32())
		f.r.byte()
	}
	if total > MaxLocals {
		f.r.fail("a function has %d locals, the limit is %d", total, MaxLocals)
		return
	}
	f.local = uint32(total)
	f.out = appendU32(f.out, groups+1)
	f.out = append(f.out, f.r.b[start:f.r.pos]...)
	f.out = append(f.out, 1, valI32)
}

// flush copies the old code up to pos.
func (f *function) flush(pos int) {
	if f.r.err == nil {
		f.out = append(f.out, f.r.b[f.copied:pos]...)
		f.copied = pos
	}
}

// open notes a block that starts here; charge adds the check.
func (f *function) open(charge bool) {
	if !charge {
		f.frames = append(f.frames, frame{})
		return
	}
	f.flush(f.r.pos)
	f.out = appendU32(append(f.out, opGlobalGet), f.w.globals)
	f.out = append(f.out, opI32Const)
	f.frames = append(f.frames, frame{start: f.r.pos, patch: len(f.out), charged: true})
	f.out = append(f.out, 0x80, 0x80, 0x80, 0x80, 0) // the weight, known at the block's end
	f.check()
}

// close ends the innermost block and fills in its weight.
func (f *function) close() {
	fr := f.frames[len(f.frames)-1]
	f.frames = f.frames[:len(f.frames)-1]
	if !fr.charged {
		return
	}
	weight := 1 + uint32(f.r.pos-fr.start)>>bytesPerUnitShift
	for i := range 4 {
		f.out[fr.patch+i] = byte(weight>>(7*i)) | 0x80
	}
}

// check expects fuel and cost on the stack.
func (f *function) check() {
	p := append(f.out, opI32Sub, opLocalTee)
	p = appendU32(p, f.local)
	p = appendU32(append(p, opGlobalSet), f.w.globals)
	p = appendU32(append(p, opLocalGet), f.local)
	p = append(p, opI32Const, 0, opI32LtS, opIf, blockVoid)
	f.out = p
	f.refuel()
	f.out = append(f.out, opEnd)
}

func (f *function) refuel() {
	f.out = appendU32(append(f.out, opCall), f.w.imported)
	f.out = appendU32(append(f.out, opGlobalSet), f.w.globals)
}

// chargeLength adds, before the instruction at start, a check for as much as the
// length on top of the stack.
func (f *function) chargeLength(start int) {
	f.flush(start)
	p := appendU32(append(f.out, opLocalTee), f.local)
	p = appendU32(append(p, opGlobalGet), f.w.globals)
	p = appendU32(append(p, opLocalGet), f.local)
	f.out = append(p, opI32Const, bytesPerUnitShift, opI32ShrU)
	f.check()
}

// refuelBefore adds a call of the host before the instruction at start.
func (f *function) refuelBefore(start int) {
	f.flush(start)
	f.refuel()
}

// renumber replaces the instruction at start by one with the new index of a function.
func (f *function) renumber(start int, op byte) {
	f.flush(start)
	index := f.r.u32()
	f.out = appendU32(append(f.out, op), f.w.fn(index))
	f.copied = f.r.pos
}

func (f *function) instruction() {
	r, start := f.r, f.r.pos
	switch op := r.byte(); {
	case op == opBlock || op == opIf:
		f.blockType()
		f.open(false)
	case op == opLoop:
		f.blockType()
		f.open(true)
	case op == opEnd:
		f.close()
	case op == opCall || op == opRefFunc:
		f.renumber(start, op)
	case op == opMemoryGrow:
		r.byte()
		f.refuelBefore(start)
	case op == opMisc:
		f.misc(start)
	case op == opSIMD:
		f.simd()
	default:
		f.plain(op)
	}
}

// blockType skips a block's type: empty, a value type, or the index of a type.
func (f *function) blockType() { f.r.leb(5) }

// plain skips the immediates of an instruction that stays as it is.
func (f *function) plain(op byte) {
	r := f.r
	switch {
	case op <= 0x01 || op == opElse || op == 0x0f || op == 0x1a || op == 0x1b || op == opRefIsNull,
		op >= opFirstPlain && op <= opLastPlain:
	case op == opBr || op == opBrIf || op >= opLocalGet && op <= opTableSet:
		r.u32()
	case op == opBrTable:
		for n := r.count(len(r.b), "branch targets"); n > 0 && r.err == nil; n-- {
			r.u32()
		}
		r.u32()
	case op == opCallIndirect || op >= opFirstLoad && op <= opLastStore:
		r.u32()
		r.u32()
	case op == opSelectTyped:
		for n := r.count(len(r.b), "types"); n > 0 && r.err == nil; n-- {
			r.byte()
		}
	case op == opMemorySize || op == opRefNull:
		r.byte()
	case op == opI32Const:
		r.leb(5)
	case op == opI64Const:
		r.leb(10)
	case op == opF32Const:
		r.bytes(4)
	case op == opF64Const:
		r.bytes(8)
	default:
		r.fail("instruction 0x%x is not supported", op)
	}
}

// misc reads the instructions with prefix 0xfc.
func (f *function) misc(start int) {
	r := f.r
	switch sub := r.u32(); sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating conversions
	case 9, 13, 16: // data.drop, elem.drop, table.size
		r.u32()
	case 8, 10, 12, 14: // memory.init, memory.copy, table.init, table.copy
		r.u32()
		r.u32()
		f.chargeLength(start)
	case 11, 17: // memory.fill, table.fill
		r.u32()
		f.chargeLength(start)
	case 15: // table.grow
		r.u32()
		f.refuelBefore(start)
	default:
		r.fail("instruction 0xfc %d is not supported", sub)
	}
}

// simd reads the instructions with prefix 0xfd.
func (f *function) simd() {
	r := f.r
	switch sub := r.u32(); {
	case sub <= 11 || sub == 92 || sub == 93: // loads and stores
		r.u32()
		r.u32()
	case sub == simdConst || sub == 13: // v128.const, i8x16.shuffle
		r.bytes(16)
	case sub >= 21 && sub <= 34: // lanes
		r.byte()
	case sub >= 84 && sub <= 91: // loads and stores of lanes
		r.u32()
		r.u32()
		r.byte()
	case sub > 255:
		r.fail("instruction 0xfd %d is not supported", sub)
	}
}
