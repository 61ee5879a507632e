package plugins

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/weirmq/weir/plugins/abi"
	"github.com/weirmq/weir/plugins/fuel"
)

// maxLinearMemory keeps guest addresses below 2 GiB, so that a packed pointer is
// never negative.
const maxLinearMemory = 1<<31 - wasmPage

// engine compiles modules. Each plugin gets a runtime of its own, because that is
// what the engine's memory limit belongs to; they share the cache of compiled code.
type engine struct {
	interpret bool
	cache     wazero.CompilationCache
}

// newEngine opens the cache. Whoever can write the folder runs native code in
// this process: it must be ours alone.
func newEngine(o *Options) (*engine, error) {
	e := &engine{interpret: o.Interpret, cache: wazero.NewCompilationCache()}
	if o.CacheDir == "" {
		return e, nil
	}
	if err := os.MkdirAll(o.CacheDir, 0o700); err != nil {
		return nil, fmt.Errorf("plugins: compilation cache: %w", err)
	}
	if err := os.Chmod(o.CacheDir, 0o700); err != nil {
		return nil, fmt.Errorf("plugins: compilation cache: %w", err)
	}
	var err error
	if e.cache, err = wazero.NewCompilationCacheWithDir(o.CacheDir); err != nil {
		return nil, fmt.Errorf("plugins: compilation cache: %w", err)
	}
	return e, nil
}

func (e *engine) close() error { return e.cache.Close(context.Background()) }

// program is a compiled module with what it may import.
type program struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	limits   Limits
	start    time.Duration
	config   []byte
	logs     *logRing
}

// compile checks, rewrites and compiles a module. It runs none of it.
func (e *engine) compile(module []byte, limits Limits) (*program, error) {
	rewritten, err := fuel.Rewrite(module)
	if err != nil {
		return nil, err
	}
	config := wazero.NewRuntimeConfig()
	if e.interpret {
		config = wazero.NewRuntimeConfigInterpreter()
	}
	config = config.WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(uint32(limits.MemoryBytes / wasmPage)).
		WithCompilationCache(e.cache).
		WithDebugInfoEnabled(false)
	ctx := context.Background()
	p := &program{runtime: wazero.NewRuntimeWithConfig(ctx, config), limits: limits}
	if p.compiled, err = p.runtime.CompileModule(ctx, rewritten); err == nil {
		if err = checkImports(p.compiled); err == nil {
			err = checkExports(p.compiled)
		}
	}
	if err == nil {
		err = p.link(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *program) close() error { return p.runtime.Close(context.Background()) }

// checkImports refuses a module that wants what it is not granted, by name.
func checkImports(m wazero.CompiledModule) error {
	for _, f := range m.ImportedFunctions() {
		module, name, _ := f.Import()
		var known []hostFunction
		switch module {
		case abi.ImportModule:
			known = weirFunctions
		case wasiModule:
			known = wasiFunctions
		}
		i := slices.IndexFunc(known, func(h hostFunction) bool { return h.name == name })
		if i < 0 {
			return fmt.Errorf("the module imports %s.%s, which this host does not give; a plugin may import %s.%s, %s.%s and WASI preview 1",
				module, name, abi.ImportModule, abi.ImportLog, abi.ImportModule, abi.ImportLogEnabled)
		}
		if !slices.Equal(f.ParamTypes(), known[i].params) || !slices.Equal(f.ResultTypes(), known[i].results) {
			return fmt.Errorf("the module imports %s.%s with another signature", module, name)
		}
	}
	if len(m.ImportedMemories()) > 0 {
		return errors.New("the module imports its memory; it must export one of its own")
	}
	return nil
}

var (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
)

// checkExports refuses a module that lacks a part of the contract.
func checkExports(m wazero.CompiledModule) error {
	if m.ExportedMemories()[abi.ExportMemory] == nil {
		return fmt.Errorf("the module does not export its memory as %q", abi.ExportMemory)
	}
	for _, want := range []struct {
		name            string
		params, results []api.ValueType
		optional        bool
	}{
		{abi.ExportVersion, nil, []api.ValueType{i32}, false},
		{abi.ExportAlloc, []api.ValueType{i32}, []api.ValueType{i32}, false},
		{abi.ExportTransform, []api.ValueType{i32, i32}, []api.ValueType{i64}, false},
		{abi.ExportInit, []api.ValueType{i32, i32}, []api.ValueType{i32}, true},
		{abi.ExportError, nil, []api.ValueType{i64}, true},
		{abi.ExportInitialize, nil, nil, true},
	} {
		f := m.ExportedFunctions()[want.name]
		switch {
		case f == nil && want.optional:
		case f == nil:
			return fmt.Errorf("the module does not export the function %s", want.name)
		case !slices.Equal(f.ParamTypes(), want.params) || !slices.Equal(f.ResultTypes(), want.results):
			return fmt.Errorf("the module exports %s with another signature than the ABI's", want.name)
		}
	}
	return nil
}

// link makes the modules that the guest imports from.
func (p *program) link(ctx context.Context) error {
	for module, functions := range map[string][]hostFunction{abi.ImportModule: weirFunctions, wasiModule: wasiFunctions} {
		b := p.runtime.NewHostModuleBuilder(module)
		for _, f := range functions {
			b.NewFunctionBuilder().WithGoModuleFunction(f.call, f.params, f.results).Export(f.name)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("plugins: internal error: host module %s: %w", module, err)
		}
	}
	return nil
}
