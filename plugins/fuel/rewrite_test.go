package fuel_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/weirmq/weir/plugins/abi"
	"github.com/weirmq/weir/plugins/fuel"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var errOut = errors.New("out of fuel")

// machine runs modules; fuel counts how often they asked for more.
type machine struct {
	runtime wazero.Runtime
	asked   int
	limit   int // of asked
}

func newMachine(t testing.TB, config wazero.RuntimeConfig) *machine {
	ctx := context.Background()
	m := &machine{limit: 1 << 30}
	m.runtime = wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(64))
	t.Cleanup(func() { m.runtime.Close(ctx) })
	_, err := m.runtime.NewHostModuleBuilder(abi.ImportModule).NewFunctionBuilder().
		WithGoFunction(api.GoFunc(func(_ context.Context, stack []uint64) {
			if m.asked++; m.asked > m.limit {
				panic(errOut)
			}
			stack[0] = 1000
		}), nil, []api.ValueType{api.ValueTypeI32}).Export(abi.ImportFuel).Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.runtime.InstantiateWithConfig(ctx, read(t, "host.wasm"), wazero.NewModuleConfig().WithName("host")); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) instantiate(wasm []byte) (api.Module, error) {
	return m.runtime.InstantiateWithConfig(context.Background(), wasm, wazero.NewModuleConfig().WithName(""))
}

// outcome is what the exports without parameters return, or how they fail, each
// called in turn.
func outcome(mod api.Module) string {
	var b strings.Builder
	definitions := mod.ExportedFunctionDefinitions()
	for _, name := range slices.Sorted(maps.Keys(definitions)) {
		if len(definitions[name].ParamTypes()) > 0 {
			continue
		}
		result, err := mod.ExportedFunction(name).Call(context.Background())
		cause := ""
		if err != nil {
			cause, _, _ = strings.Cut(err.Error(), "\n")
		}
		fmt.Fprintf(&b, "%s: %v %s\n", name, result, cause)
	}
	if memory := mod.ExportedMemory("memory"); memory != nil {
		content, _ := memory.Read(0, memory.Size())
		fmt.Fprintf(&b, "memory: %d bytes, %x\n", len(content), sha256.Sum256(content))
	}
	return b.String()
}

func TestSameResults(t *testing.T) {
	for name, config := range map[string]wazero.RuntimeConfig{"compiler": wazero.NewRuntimeConfig(), "interpreter": wazero.NewRuntimeConfigInterpreter()} {
		t.Run(name, func(t *testing.T) {
			original := read(t, "features.wasm")
			rewritten, err := fuel.Rewrite(original)
			if err != nil {
				t.Fatal(err)
			}
			m := newMachine(t, config)
			before := run(t, m, original)
			if m.asked != 0 {
				t.Fatal("the original asks for fuel")
			}
			after := run(t, m, rewritten)
			if before != after {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			if m.asked == 0 {
				t.Error("the rewritten module never asks for fuel")
			}
			for _, want := range []string{"globals: [7105]", "host: [42]", "recursion: [1597]", "indirect: [131]", "loop: [500500]", "dead_code: [9]"} {
				if !strings.Contains(after, want) {
					t.Errorf("no %q in\n%s", want, after)
				}
			}
		})
	}
}

func run(t *testing.T, m *machine, wasm []byte) string {
	t.Helper()
	mod, err := m.instantiate(wasm)
	if err != nil {
		t.Fatal(err)
	}
	defer mod.Close(context.Background())
	return outcome(mod)
}

// The names of functions must be right in a stack trace, though their indices moved.
func TestNamesMove(t *testing.T) {
	m := newMachine(t, wazero.NewRuntimeConfigInterpreter())
	rewritten, err := fuel.Rewrite(read(t, "features.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := m.runtime.CompileModule(context.Background(), rewritten)
	if err != nil {
		t.Fatal(err)
	}
	if compiled.Name() != "features" {
		t.Errorf("module name %q", compiled.Name())
	}
	for export, f := range compiled.ExportedFunctions() {
		if f.Name() != export+"." {
			t.Errorf("function %s has the name %q", export, f.Name())
		}
	}
}

// Nothing runs for ever, whatever it does.
func TestEndless(t *testing.T) {
	rewritten, err := fuel.Rewrite(read(t, "endless.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]wazero.RuntimeConfig{"compiler": wazero.NewRuntimeConfig(), "interpreter": wazero.NewRuntimeConfigInterpreter()} {
		m := newMachine(t, config)
		mod, err := m.instantiate(rewritten)
		if err != nil {
			t.Fatal(err)
		}
		for export := range mod.ExportedFunctionDefinitions() {
			m.asked, m.limit = 0, 50
			if _, err := mod.ExportedFunction(export).Call(context.Background()); !errors.Is(err, errOut) {
				t.Errorf("%s: %s: %v", name, export, err)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	header := "\x00asm\x01\x00\x00\x00"
	for name, c := range map[string]struct{ module, want string }{
		"empty":           {"", "does not start with"},
		"component":       {"\x00asm\x0d\x00\x01\x00", "components are not supported"},
		"section order":   {header + "\x03\x01\x00\x01\x01\x00", "out of order"},
		"section length":  {header + "\x01\xff\xff\xff\xff\x0f", "are said to follow"},
		"unknown section": {header + "\x0e\x00", "unknown section 14"},
		"giant data":      {header + "\x0b\x05\xff\xff\xff\xff\x0f", "data segments"},
		"memories":        {header + "\x05\x05\x02\x00\x01\x00\x01", "2 memories"},
		"giant count":     {header + "\x01\x05\xff\xff\xff\xff\x0f", "types"},
		"big table":       {header + "\x04\x07\x01\x70\x00\xff\xff\xff\x7f", "a table of 268435455 elements"},
		"big locals":      {header + "\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x0a\x01\x08\x01\xff\xff\xff\xff\x0f\x7f\x0b", "locals"},
		"own fuel":        {header + "\x01\x04\x01\x60\x00\x00\x02\x0e\x01\x05weir1\x04fuel\x00\x00", "the host's own"},
		"atomics":         {header + "\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x07\x01\x05\x00\xfe\x03\x00\x0b", "instruction 0xfe"},
		"tail call":       {header + "\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x06\x01\x04\x00\x12\x00\x0b", "instruction 0x12"},
	} {
		if _, err := fuel.Rewrite([]byte(c.module)); !errors.Is(err, fuel.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

// FuzzRewrite: what Rewrite and the engine accept, the engine accepts rewritten;
// and what the rewritten module computes, the original does too.
func FuzzRewrite(f *testing.F) {
	for _, name := range []string{"features.wasm", "endless.wasm", "../../testdata/hostile.wasm", "../../testdata/identity.wasm"} {
		f.Add(read(f, name))
	}
	f.Fuzz(func(t *testing.T, module []byte) {
		if len(module) > 8<<10 {
			t.Skip()
		}
		rewritten, err := fuel.Rewrite(module)
		if err != nil {
			return // the engine must not see it: it makes room for what a count claims
		}
		m := newMachine(t, wazero.NewRuntimeConfigInterpreter())
		ctx := context.Background()
		original, err := m.runtime.CompileModule(ctx, module)
		if err != nil {
			return
		}
		defer original.Close(ctx)
		compiled, err := m.runtime.CompileModule(ctx, rewritten)
		if err != nil {
			t.Fatalf("the module is valid, rewritten it is not: %v", err)
		}
		defer compiled.Close(ctx)
		m.limit = 20
		after, err := m.runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
		if err != nil {
			return
		}
		defer after.Close(ctx)
		want := outcome(after)
		if m.asked > m.limit || strings.Contains(want, "stack overflow") {
			return // it would not end
		}
		before, err := m.runtime.InstantiateModule(ctx, original, wazero.NewModuleConfig().WithName("").WithStartFunctions())
		if err != nil {
			t.Fatalf("rewritten it starts, as it was it does not: %v", err)
		}
		defer before.Close(ctx)
		if got := outcome(before); got != want {
			t.Fatalf("before:\n%s\nafter:\n%s", got, want)
		}
	})
}
