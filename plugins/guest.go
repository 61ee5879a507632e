package plugins

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/plugins/abi"
	"github.com/weirmq/weir/plugins/transform"
)

// Limits on what one call gives and takes.
const (
	minRegionBytes   = 64 << 10
	outputsPerRecord = 64 // an output frame may have so many records for each input
	maxErrorBytes    = transform.MaxReasonBytes
)

// guest is one instance of a plugin. One goroutine at a time uses it. After any
// error but ErrOutputFull it must be closed: nobody knows what state it is in.
type guest struct {
	module api.Module
	memory api.Memory
	ctx    context.Context // carries the guest to the host functions
	logs   *logRing
	line   lineBuffer
	limit  time.Duration // of one call of weir_transform

	allocate, run, lastError api.Function

	// The call in progress.
	allowed  time.Duration
	deadline time.Time
	ticks    int // slices of fuel and host calls

	stack              [2]uint64
	region, regionSize uint32 // the input region, as the guest gave it
}

// instantiate starts an instance.
func (p *program) instantiate() (*guest, error) {
	g := &guest{logs: p.logs, limit: p.limits.CallTime()}
	g.ctx = context.WithValue(context.Background(), guestKey{}, g)
	g.begin(p.start)
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	var err error
	if g.module, err = p.runtime.InstantiateModule(g.ctx, p.compiled, config); err != nil {
		return nil, fmt.Errorf("start: %w", shorten(err))
	}
	g.memory = g.module.ExportedMemory(abi.ExportMemory)
	g.allocate = g.module.ExportedFunction(abi.ExportAlloc)
	g.run = g.module.ExportedFunction(abi.ExportTransform)
	g.lastError = g.module.ExportedFunction(abi.ExportError)
	if err := g.initialize(p.config, p.start); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *guest) initialize(config []byte, limit time.Duration) error {
	g.begin(limit)
	if f := g.module.ExportedFunction(abi.ExportInitialize); f != nil {
		if err := g.call(f); err != nil {
			return fmt.Errorf("%s: %w", abi.ExportInitialize, err)
		}
	}
	if err := g.call(g.module.ExportedFunction(abi.ExportVersion)); err != nil {
		return fmt.Errorf("%s: %w", abi.ExportVersion, err)
	}
	if v := uint32(g.stack[0]); v>>16 != abi.Major || v&0xffff > abi.Minor {
		return fmt.Errorf("the module was built for ABI %d.%d, this host has %d.%d", v>>16, v&0xffff, abi.Major, abi.Minor)
	}
	f := g.module.ExportedFunction(abi.ExportInit)
	if f == nil {
		return nil
	}
	if len(config) == 0 {
		config = []byte("{}")
	}
	if err := g.makeRoom(len(config)); err != nil {
		return err
	}
	if !g.memory.Write(g.region, config) {
		return abi.ErrOutside
	}
	g.stack[0], g.stack[1] = uint64(g.region), uint64(len(config))
	if err := g.call(f); err != nil {
		return fmt.Errorf("%s: %w", abi.ExportInit, err)
	}
	if code := int32(g.stack[0]); code != 0 {
		return fmt.Errorf("the plugin refuses its configuration: %w", g.failure(int64(code)))
	}
	return nil
}

func (g *guest) close() {
	g.line.flush(g.logs)
	g.module.Close(g.ctx)
}

// call calls f; its parameters and result are in g.stack.
func (g *guest) call(f api.Function) error {
	err := f.CallWithStack(g.ctx, g.stack[:])
	if err != nil {
		return shorten(err)
	}
	return nil
}

// shorten takes the stack trace out of an error's text and keeps what it wraps.
func shorten(err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	text = strings.TrimSuffix(strings.TrimPrefix(text, "wasm error: "), " (recovered by wazero)")
	for _, known := range []error{transform.ErrDeadline, errExit} {
		if errors.Is(err, known) {
			return fmt.Errorf("%w%s", known, strings.TrimPrefix(text, known.Error()))
		}
	}
	return errors.New(text)
}

// makeRoom has the guest give a region of n bytes, unless it has.
func (g *guest) makeRoom(n int) error {
	if uint32(n) <= g.regionSize {
		return nil
	}
	size := max(uint32(n)+uint32(n)/4, minRegionBytes)
	g.stack[0] = uint64(size)
	if err := g.call(g.allocate); err != nil {
		return fmt.Errorf("%s(%d): %w", abi.ExportAlloc, size, err)
	}
	g.region, g.regionSize = uint32(g.stack[0]), 0
	if g.region == 0 {
		return fmt.Errorf("the plugin has no memory for an input of %d bytes", size)
	}
	if uint64(g.region)+uint64(size) > uint64(g.memory.Size()) {
		return fmt.Errorf("%s(%d): the region is not inside the guest's memory", abi.ExportAlloc, size)
	}
	g.regionSize = size
	return nil
}

// transform has the guest work on in.
func (g *guest) transform(in *transform.Input, out *transform.Output) error {
	g.begin(g.limit)
	size := abi.FrameSize(len(in.Records))
	for i := range in.Records {
		r := &in.Records[i]
		size += len(r.Key) + len(r.Value) + len(r.HeaderBlock)
	}
	if err := g.makeRoom(size); err != nil {
		return err
	}
	region, ok := g.memory.Read(g.region, uint32(size))
	if !ok {
		return abi.ErrOutside
	}
	writeFrame(region, g.region, in)
	g.stack[0], g.stack[1] = uint64(g.region), uint64(size)
	if err := g.call(g.run); err != nil {
		return err
	}
	switch result := int64(g.stack[0]); {
	case result < 0:
		return g.failure(result)
	case result == 0:
		return nil
	default:
		ptr, size := abi.Unpack(result)
		return g.takeFrame(ptr, size, len(in.Records), out)
	}
}

// writeFrame fills region, which begins at base in the guest's memory.
func writeFrame(region []byte, base uint32, in *transform.Input) {
	h := abi.Header{Count: uint32(len(in.Records)), Partition: uint32(in.Partition), Topic: uint16(in.Topic), NowMs: in.NowMs}
	if len(in.Records) > 0 {
		h.BaseOffset = in.Records[0].Offset
	}
	abi.PutHeader(region, &h)
	at := abi.FrameSize(len(in.Records))
	for i := range in.Records {
		r := &in.Records[i]
		d := abi.Descriptor{KeyLen: -1, ValueLen: -1, Timestamp: r.Timestamp, Source: uint32(i), Topic: uint16(in.Topic), Offset: r.Offset}
		if r.Key != nil {
			d.KeyPtr, d.KeyLen = base+uint32(at), int32(len(r.Key))
			at += copy(region[at:], r.Key)
		}
		if r.Value != nil {
			d.ValuePtr, d.ValueLen = base+uint32(at), int32(len(r.Value))
			at += copy(region[at:], r.Value)
		}
		if len(r.HeaderBlock) > 1 || len(r.HeaderBlock) == 1 && r.HeaderBlock[0] != 0 {
			d.HeadersPtr, d.HeadersLen = base+uint32(at), uint32(len(r.HeaderBlock))
			at += copy(region[at:], r.HeaderBlock)
		}
		abi.PutDescriptor(region[abi.HeaderSize+i*abi.DescriptorSize:], &d)
	}
}

// noHeaders is the block of a record without headers.
var noHeaders = []byte{0}

// takeFrame checks the whole output frame and only then adds its records to out.
func (g *guest) takeFrame(ptr, size uint32, inputs int, out *transform.Output) error {
	memory, _ := g.memory.Read(0, g.memory.Size())
	f, err := abi.Open(memory, ptr, size, inputs*outputsPerRecord)
	if err != nil {
		return err
	}
	var d abi.Descriptor
	total := int64(0)
	for i := range int(f.Count) {
		if err := checkOutput(&f, i, &d, inputs, out.Topics()); err != nil {
			return fmt.Errorf("output record %d: %w", i, err)
		}
		total += int64(max(d.KeyLen, 0)) + int64(max(d.ValueLen, 0)) + int64(d.HeadersLen)
	}
	if err := out.Reserve(total + int64(f.Count)); err != nil {
		return err
	}
	var r record.Record
	for i := range int(f.Count) {
		if err := f.Descriptor(i, &d); err != nil {
			return err
		}
		if d.Flags&abi.FlagReject != 0 {
			out.Reject(int(d.Source), f.Value(&d))
			continue
		}
		r.Timestamp, r.Key, r.Value, r.HeaderBlock = d.Timestamp, f.Key(&d), f.Value(&d), f.Headers(&d)
		if len(r.HeaderBlock) == 0 {
			r.HeaderBlock = noHeaders
		}
		out.Add(int(d.Topic), &r)
	}
	return nil
}

func checkOutput(f *abi.Frame, i int, d *abi.Descriptor, inputs, topics int) error {
	if err := f.Descriptor(i, d); err != nil {
		return err
	}
	switch {
	case d.Source >= uint32(inputs):
		return fmt.Errorf("source %d of %d input records", d.Source, inputs)
	case int(d.Topic) >= topics:
		return fmt.Errorf("topic %d of %d outputs", d.Topic, topics)
	case d.Flags&^abi.FlagReject != 0:
		return abi.ErrFlags
	case d.HeadersLen != 0:
		return abi.CheckHeaders(f.Headers(d))
	}
	return nil
}

// failure is the error that a guest returned, with the text it has for it.
func (g *guest) failure(code int64) error {
	if g.lastError != nil && g.call(g.lastError) == nil {
		ptr, size := abi.Unpack(int64(g.stack[0]))
		if text, ok := g.memory.Read(ptr, min(size, maxErrorBytes)); ok && len(text) > 0 {
			return fmt.Errorf("the plugin failed: %s", strings.ToValidUTF8(string(text), "\uFFFD"))
		}
	}
	return fmt.Errorf("the plugin failed with code %d", code)
}
