package firmwareconfig

import (
	"embed"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

//go:embed profiles/*.yaml
var profiles embed.FS

// Profiles lists the board profiles' names.
func Profiles() []string {
	entries, err := profiles.ReadDir("profiles")
	if err != nil {
		panic("firmwareconfig: internal error: " + err.Error())
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return names
}

// ProfileText is a board profile as YAML; its comment says which boards it is for.
func ProfileText(name string) (string, error) {
	text, err := profiles.ReadFile(path.Join("profiles", name+".yaml"))
	if err != nil {
		hint := "the profiles are " + strings.Join(Profiles(), ", ")
		if near := nearest(name, Profiles()); near != "" {
			hint = "did you mean '" + near + "'?"
		}
		return "", fmt.Errorf("unknown board profile '%s': %s", name, hint)
	}
	return string(text), nil
}

func applyProfile(cfg *Config) error {
	text, err := ProfileText(cfg.Profile)
	if err != nil {
		return err
	}
	root, err := parseYAML([]byte(text))
	if err != nil {
		return fmt.Errorf("board profile %s: %w", cfg.Profile, err)
	}
	d := decoder{}
	d.document(root, cfg)
	if err := d.err(); err != nil {
		return fmt.Errorf("board profile %s: %w", cfg.Profile, err)
	}
	return nil
}

// profileOf finds the profile that the file asks for, before the file is laid
// over it; "" where there is none, or none that exists: the walk reports that.
func profileOf(root ast.Node) string {
	m, ok := root.(ast.MapNode)
	if !ok {
		return ""
	}
	for it := m.MapRange(); it.Next(); {
		if keyText(it.Key()) != "profile" {
			continue
		}
		if name, ok := scalarText(it.Value()); ok && slices.Contains(Profiles(), name) {
			return name
		}
	}
	return ""
}

// DetectProfile picks the profile for the machine it runs on: by memory first,
// because that is what an appliance runs out of.
func DetectProfile() string {
	memory := memoryTotal("/proc/meminfo")
	switch {
	case memory > 0 && memory < 900<<20:
		return "pi-zero-2"
	case runtime.GOARCH == "amd64" && (memory == 0 || memory >= 3<<30):
		return "gateway-x86"
	}
	return "pi-4"
}

// memoryTotal reads MemTotal; 0 when the system does not say.
func memoryTotal(meminfo string) int64 {
	text, err := os.ReadFile(meminfo)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}
