package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/weirmq/weir/plugins/abi"
	"github.com/weirmq/weir/plugins/transform"
)

// fuelSlice is how much fuel a guest gets at once, 0.05 to 0.5 ms of work: how
// precise its time limit is, and how long a garbage collection can wait for it.
const fuelSlice = 100_000

// errExit is the panic of a guest that wants to end the process.
var errExit = errors.New("the plugin called exit")

// hostFunction is a function that guests may import. It is registered with its
// types, never by reflection, which would make each call 30 times as dear.
type hostFunction struct {
	name            string
	params, results []api.ValueType
	call            api.GoModuleFunc
}

// signature spells types as a string of i (i32) and l (i64).
func signature(s string) []api.ValueType {
	var ts []api.ValueType
	for _, c := range s {
		ts = append(ts, map[rune]api.ValueType{'i': i32, 'l': i64}[c])
	}
	return ts
}

// guestKey is where a call's context has the guest.
type guestKey struct{}

// hostCall wraps what a host function does: it finds the guest and ends the call
// when its time is up, so that a flood of host calls is stopped as a loop is.
func hostCall(name, params, results string, f func(g *guest, stack []uint64)) hostFunction {
	return hostFunction{name, signature(params), signature(results),
		func(ctx context.Context, m api.Module, stack []uint64) {
			g := ctx.Value(guestKey{}).(*guest)
			g.checkTime()
			if g.memory == nil { // a start function calls
				g.memory = m.Memory()
			}
			f(g, stack)
		}}
}

// A guest that the machine did not let run must not be blamed for being late: it
// is late only after minTicks slices of fuel or host calls, or after overtime
// times its limit.
const (
	minTicks = 8
	overtime = 10
)

// begin starts the time of a call.
func (g *guest) begin(limit time.Duration) {
	g.allowed, g.ticks = limit, 0
	g.deadline = time.Now().Add(limit)
}

// checkTime panics when the call's time is up; the engine turns the panic into
// the call's error.
func (g *guest) checkTime() {
	g.ticks++
	late := time.Since(g.deadline)
	if late > 0 && (g.ticks > minTicks || late > (overtime-1)*g.allowed) {
		panic(fmt.Errorf("%w: %v", transform.ErrDeadline, g.allowed))
	}
}

var weirFunctions = []hostFunction{
	hostCall(abi.ImportFuel, "", "i", func(_ *guest, stack []uint64) { stack[0] = fuelSlice }),
	hostCall(abi.ImportLog, "iii", "", func(g *guest, stack []uint64) {
		size := min(uint32(stack[2]), maxLineBytes)
		if line, ok := g.memory.Read(uint32(stack[1]), size); ok {
			g.logs.add(slog.Level(int32(stack[0])), line)
		}
	}),
	hostCall(abi.ImportLogEnabled, "i", "i", func(_ *guest, stack []uint64) {
		stack[0] = 1
	}),
}
