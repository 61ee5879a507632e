package plugins_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/weirmq/weir/plugins"
)

const goodManifest = `{"abi":{"major":1,"minor":0},"kind":"transform","name":"telemetry","version":"1.0.0","inputs":["mqtt"],"outputs":["telemetry"],
 "limits":{"memory_bytes":1048576,"call_ms":50},"on_failure":"skip","config":{"a":1}}`

func TestManifest(t *testing.T) {
	m, err := plugins.ParseManifest([]byte(goodManifest))
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "telemetry" || m.Limits.CallMs != 50 || m.OnFailure != "skip" || string(m.Config) != `{"a":1}` || m.Inputs[0] != "mqtt" {
		t.Errorf("parsed %+v", m)
	}
	for _, c := range [][3]string{
		{`"kind"`, `"knid"`, `unknown field "knid"; did you mean "kind"?`},
		{`"memory_bytes"`, `"memory"`, `limits: unknown field "memory"; known are ["call_ms" "memory_bytes"]`},
		{`"call_ms":50`, `"call_ms":50,"call_ms":60`, `limits: field "call_ms" stands there twice`},
		{`"call_ms":50`, `"call_ms":"50"`, `limits: call_ms: json: cannot unmarshal`},
		{`"call_ms":50`, `"call_ms":-1`, `limits: they cannot be negative`},
		{`"major":1`, `"major":2`, `abi 2.0: this host has 1.0`},
		{`"transform"`, `"source"`, `kind "source"`},
		{`"telemetry","version"`, `"../telemetry","version"`, `name "../telemetry"`},
		{`1.0.0`, `1.0`, `use MAJOR.MINOR.PATCH`},
		{`["mqtt"]`, `[]`, `inputs: 0 topics`},
		{`["mqtt"]`, `["a/b"]`, `inputs: "a/b" is no topic name`},
		{`["mqtt"]`, `["__consumer_offsets"]`, `one of the broker's own`},
		{`["mqtt"]`, `["telemetry"]`, `would feed itself`},
		{`["mqtt"]`, `["a","a"]`, `named twice`},
		{`"skip"`, `"ignore"`, `on_failure "ignore"`},
		{`{"a":1}`, `[1]`, `config: it must be an object`},
		{`{"a":1}`, `null`, `config: it must be an object`},
		{`"1.0.0"`, `null`, `version: null is no value`},
		{`{"a":1}}`, `{"a":1}} x`, `something after`},
		{goodManifest, `[]`, `must be a JSON object`},
		{goodManifest, ``, `not JSON`},
	} {
		_, err := plugins.ParseManifest([]byte(strings.Replace(goodManifest, c[0], c[1], 1)))
		if err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s: %v; want %s", c[1], err, c[2])
		}
	}
}

func TestShippedManifestsAreGood(t *testing.T) {
	files, err := filepath.Glob("guests/*/manifest.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := plugins.ParseManifest(text); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func TestPack(t *testing.T) {
	wasm := unpacked(t, "identity")
	packed, err := plugins.Pack(wasm, []byte(goodManifest))
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(goodManifest, "1.0.0", "1.0.1", 1)
	again, err := plugins.Pack(packed, []byte(other))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := plugins.Unpack(again); err != nil || string(got) != other || !bytes.HasPrefix(again, wasm) {
		t.Errorf("unpacked %s, %v", got, err)
	}
	twice := append(bytes.Clone(packed), packed[len(wasm):]...)
	if _, err := plugins.Unpack(twice); err == nil || !strings.Contains(err.Error(), "2 custom sections") {
		t.Errorf("two manifests: %v", err)
	}
	if _, err := plugins.Pack(wasm, []byte("{}")); err == nil {
		t.Error("a bad manifest was packed")
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(goodManifest))
	f.Add([]byte(`{"config":{},"limits":{}}`))
	f.Add([]byte(`{"name":"a","name":"a"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := plugins.ParseManifest(text)
		if err != nil {
			return
		}
		written, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := plugins.ParseManifest(written)
		if err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		m.Config, again.Config = nil, nil // spacing may differ
		if !reflect.DeepEqual(m, again) {
			t.Errorf("%+v became %+v", m, again)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add(unpacked(f, "identity"))
	f.Add(module(f, "identity", "p", nil))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x00\xff\xff\xff\xff\x0f"))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x00\x0c\x0bweir.plugin"))
	f.Fuzz(func(t *testing.T, wasm []byte) {
		if _, err := plugins.Unpack(wasm); err != nil && err != plugins.ErrNoManifest {
			return
		}
		packed, err := plugins.Pack(wasm, []byte(goodManifest))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := plugins.Unpack(packed); err != nil || string(got) != goodManifest {
			t.Errorf("packed, then unpacked: %s, %v", got, err)
		}
	})
}
