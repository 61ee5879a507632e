package plugins

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/plugins/abi"
	"github.com/weirmq/weir/plugins/transform"
)

// Limits on a manifest.
const (
	MaxManifestBytes = 64 << 10
	MaxTopics        = 16 // inputs, and outputs
	maxTopicName     = 249
	maxPluginName    = 64
)

// KindTransform is a plugin that reads topics and writes topics.
const KindTransform = "transform"

// Manifest is what a plugin says of itself, in JSON, in the custom section
// "weir.plugin" of its module:
//
//	{
//	  "abi": {"major": 1, "minor": 0},
//	  "kind": "transform",
//	  "name": "telemetry",
//	  "version": "1.0.0",
//	  "description": "raw device JSON to SI units",
//	  "inputs": ["mqtt"],
//	  "outputs": ["telemetry"],
//	  "limits": {"memory_bytes": 33554432, "call_ms": 100},
//	  "on_failure": "dead-letter",
//	  "config": {"any": "JSON the plugin understands"}
//	}
//
// Unknown fields are errors. limits, on_failure, description and config may be left out.
type Manifest struct {
	ABI         ABI              `json:"abi"`
	Kind        string           `json:"kind"`
	Name        string           `json:"name"` // letters, digits, - and _
	Version     string           `json:"version"`
	Description string           `json:"description,omitempty"`
	Inputs      []string         `json:"inputs"`  // topics read
	Outputs     []string         `json:"outputs"` // topics written, by their index in output frames
	Limits      Limits           `json:"limits"`
	OnFailure   transform.Policy `json:"on_failure"`
	Config      json.RawMessage  `json:"config,omitempty"` // an object, given to weir_init
}

// ABI is the version of the contract that a plugin was built for.
type ABI struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
}

// Limits is what a plugin wants of the box; zero means the host's default.
type Limits struct {
	MemoryBytes int64 `json:"memory_bytes,omitempty"` // linear memory of one instance
	CallMs      int64 `json:"call_ms,omitempty"`      // one call of weir_transform
}

// CallTime is the limit on one call.
func (l Limits) CallTime() time.Duration { return time.Duration(l.CallMs) * time.Millisecond }

var (
	namePattern    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	versionPattern = regexp.MustCompile(`^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9A-Za-z.-]{1,32})?$`)
	topicPattern   = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
)

// ParseManifest reads and checks a manifest. Errors name the field and the mend.
func ParseManifest(text []byte) (Manifest, error) {
	var m Manifest
	if len(text) > MaxManifestBytes {
		return m, fmt.Errorf("manifest: %d bytes, the limit is %d", len(text), MaxManifestBytes)
	}
	if err := parseManifest(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

func parseManifest(text []byte, m *Manifest) error {
	return parseObject(text, map[string]func(json.RawMessage) error{
		"abi": func(raw json.RawMessage) error {
			return parseObject(raw, map[string]func(json.RawMessage) error{
				"major": into(&m.ABI.Major), "minor": into(&m.ABI.Minor),
			})
		},
		"kind":        into(&m.Kind),
		"name":        into(&m.Name),
		"version":     into(&m.Version),
		"description": into(&m.Description),
		"inputs":      into(&m.Inputs),
		"outputs":     into(&m.Outputs),
		"limits":      limitsInto(&m.Limits),
		"on_failure":  into((*string)(&m.OnFailure)),
		"config":      func(raw json.RawMessage) error { m.Config = bytes.Clone(raw); return nil },
	})
}

func limitsInto(l *Limits) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		return parseObject(raw, map[string]func(json.RawMessage) error{
			"memory_bytes": into(&l.MemoryBytes), "call_ms": into(&l.CallMs),
		})
	}
}

// Validate checks a manifest that was read or changed.
func (m *Manifest) Validate() error {
	switch {
	case m.ABI.Major != abi.Major || m.ABI.Minor < 0 || m.ABI.Minor > abi.Minor:
		return fmt.Errorf("abi %d.%d: this host has %d.%d; build the plugin for it or update the host", m.ABI.Major, m.ABI.Minor, abi.Major, abi.Minor)
	case m.Kind != KindTransform:
		return fmt.Errorf("kind %q: this host knows %q only", m.Kind, KindTransform)
	case len(m.Name) > maxPluginName || !namePattern.MatchString(m.Name):
		return fmt.Errorf("name %q: use 1 to %d letters, digits, - and _", m.Name, maxPluginName)
	case !versionPattern.MatchString(m.Version):
		return fmt.Errorf("version %q: use MAJOR.MINOR.PATCH, as 1.0.0", m.Version)
	case m.Limits.MemoryBytes < 0 || m.Limits.CallMs < 0:
		return errors.New("limits: they cannot be negative")
	}
	if err := checkTopics("inputs", m.Inputs); err != nil {
		return err
	}
	if err := checkTopics("outputs", m.Outputs); err != nil {
		return err
	}
	for _, t := range m.Outputs {
		if slices.Contains(m.Inputs, t) {
			return fmt.Errorf("outputs: %q is also an input, the plugin would feed itself for ever", t)
		}
	}
	if len(m.Config) > 0 && bytes.TrimSpace(m.Config)[0] != '{' {
		return errors.New("config: it must be an object")
	}
	if m.OnFailure == "" {
		m.OnFailure = transform.DeadLetter
	}
	return m.OnFailure.Validate()
}

func checkTopics(field string, topics []string) error {
	if len(topics) == 0 || len(topics) > MaxTopics {
		return fmt.Errorf("%s: %d topics, name 1 to %d", field, len(topics), MaxTopics)
	}
	for i, t := range topics {
		switch {
		case len(t) > maxTopicName || !topicPattern.MatchString(t) || t == "." || t == "..":
			return fmt.Errorf("%s: %q is no topic name", field, t)
		case strings.HasPrefix(t, "__"):
			return fmt.Errorf("%s: %q is one of the broker's own topics", field, t)
		case slices.Contains(topics[:i], t):
			return fmt.Errorf("%s: %q is named twice", field, t)
		}
	}
	return nil
}
