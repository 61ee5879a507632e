package plugins

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/weirmq/weir/plugins/transform"
)

// Overrides are what an operator wants other than the manifest says. Zero keeps
// the manifest's.
type Overrides struct {
	Inputs    []string         `json:"inputs,omitempty"`
	Outputs   []string         `json:"outputs,omitempty"` // as many as the manifest has
	Limits    Limits           `json:"limits,omitzero"`
	OnFailure transform.Policy `json:"on_failure,omitempty"`
	Config    json.RawMessage  `json:"config,omitempty"`
}

// ParseOverrides reads overrides as strictly as a manifest is read. Empty text is
// no overrides.
func ParseOverrides(text []byte) (Overrides, error) {
	var o Overrides
	if len(bytes.TrimSpace(text)) == 0 {
		return o, nil
	}
	if len(text) > MaxManifestBytes {
		return o, fmt.Errorf("overrides: %d bytes, the limit is %d", len(text), MaxManifestBytes)
	}
	err := parseObject(text, map[string]func(json.RawMessage) error{
		"inputs":     into(&o.Inputs),
		"outputs":    into(&o.Outputs),
		"limits":     limitsInto(&o.Limits),
		"on_failure": into((*string)(&o.OnFailure)),
		"config":     func(raw json.RawMessage) error { o.Config = bytes.Clone(raw); return nil },
	})
	if err != nil {
		return Overrides{}, fmt.Errorf("overrides: %w", err)
	}
	return o, nil
}

// apply changes m as o says and checks the result.
func (o *Overrides) apply(m *Manifest) error {
	if len(o.Inputs) > 0 {
		m.Inputs = o.Inputs
	}
	if len(o.Outputs) > 0 {
		if len(o.Outputs) != len(m.Outputs) {
			return fmt.Errorf("overrides: %d outputs, the plugin has %d", len(o.Outputs), len(m.Outputs))
		}
		m.Outputs = o.Outputs
	}
	if o.Limits.MemoryBytes != 0 {
		m.Limits.MemoryBytes = o.Limits.MemoryBytes
	}
	if o.Limits.CallMs != 0 {
		m.Limits.CallMs = o.Limits.CallMs
	}
	if o.OnFailure != "" {
		m.OnFailure = o.OnFailure
	}
	if len(o.Config) > 0 {
		m.Config = o.Config
	}
	if err := m.Validate(); err != nil {
		return fmt.Errorf("overrides: %w", err)
	}
	return nil
}

// readManifest is the manifest in a module with overrides applied.
func readManifest(module []byte, o Overrides) (Manifest, error) {
	if len(module) > MaxModuleBytes {
		return Manifest{}, fmt.Errorf("the module has %d bytes, the limit is %d", len(module), MaxModuleBytes)
	}
	text, err := Unpack(module)
	if err != nil {
		return Manifest{}, err
	}
	m, err := ParseManifest(text)
	if err != nil {
		return Manifest{}, err
	}
	return m, o.apply(&m)
}
