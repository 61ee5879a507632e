package firmwareconfig_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// Each testdata/*.good.yaml loads, prints and loads again to the same Config.
func TestGoodFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.good.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no good files: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			cfg, err := firmwareconfig.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, cfg)
		})
	}
}

// Each testdata/*.bad.yaml starts with comment lines "# error: ..." that hold
// the whole expected text.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("too few bad files: %d, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				if rest, ok := strings.CutPrefix(line, "# error: "); ok {
					want = append(want, filepath.Base(name)+": "+strings.TrimSpace(rest))
				}
			}
			_, err = firmwareconfig.Load(name)
			if err == nil {
				t.Fatal("loaded without an error")
			}
			if got := err.Error(); got != strings.Join(want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
			}
		})
	}
}

// The parser recurses and is quadratic in places: what would make it slow is
// refused before it sees it.
func TestHostileNesting(t *testing.T) {
	for _, unit := range []string{"[", "{", "- ", "a: [", "? ", "&a ", "!a ", "\"", "a:\n "} {
		text := strings.Repeat(unit, firmwareconfig.MaxFileBytes/len(unit))
		if _, err := firmwareconfig.Parse([]byte(text)); err == nil || len(err.Error()) > 1000 {
			t.Errorf("%q repeated: err = %.200v", unit, err)
		}
	}
	if _, err := firmwareconfig.Parse(make([]byte, firmwareconfig.MaxFileBytes+1)); err == nil {
		t.Error("a file over the limit loads")
	}
}

func TestMissingFileNamesTheFlag(t *testing.T) {
	_, err := firmwareconfig.Load(filepath.Join(t.TempDir(), "weir.yaml"))
	if err == nil || !strings.Contains(err.Error(), "--config") {
		t.Errorf("err = %v", err)
	}
}

func TestProfilesLoadAndDiffer(t *testing.T) {
	names := firmwareconfig.Profiles()
	if want := []string{"gateway-x86", "pi-4", "pi-zero-2"}; !reflect.DeepEqual(names, want) {
		t.Fatalf("profiles = %v, want %v", names, want)
	}
	limits := map[firmwareconfig.Size]string{}
	for _, name := range names {
		cfg, err := firmwareconfig.Parse([]byte("profile: " + name))
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Profile != name {
			t.Errorf("profile = %q, want %q", cfg.Profile, name)
		}
		if other, dup := limits[cfg.Runtime.MemoryLimit]; dup {
			t.Errorf("%s and %s have the same memory limit", name, other)
		}
		limits[cfg.Runtime.MemoryLimit] = name
		roundTrip(t, cfg)
	}
}

func TestFileOverridesProfile(t *testing.T) {
	cfg, err := firmwareconfig.Parse([]byte("mqtt: {max_connections: 7}\nprofile: pi-zero-2\n"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.MQTT.MaxConnections != 7 {
		t.Errorf("max_connections = %d, want the file's 7", cfg.MQTT.MaxConnections)
	}
	if cfg.Storage.CommitProfile != "flash" {
		t.Errorf("commit.profile = %s, want the profile's flash", cfg.Storage.CommitProfile)
	}
}

func TestNoFileIsLoopbackAndValid(t *testing.T) {
	cfg, err := firmwareconfig.Load("")
	if err != nil {
		t.Fatal(err)
	}
	if open := cfg.Exposed(); len(open) != 0 {
		t.Errorf("exposed without being asked: %v", open)
	}
	if len(cfg.Warnings()) != 0 {
		t.Errorf("warnings = %v", cfg.Warnings())
	}
}

func TestInsecureLANIsAllowedAndShown(t *testing.T) {
	cfg, err := firmwareconfig.Parse([]byte("insecure_lan: true\nmqtt: {listen: ':1883'}\nfleet: {bind: '0.0.0.0:7946'}"))
	if err != nil {
		t.Fatal(err)
	}
	if w := cfg.Warnings(); len(w) != 2 {
		t.Errorf("warnings = %q, want one for mqtt and one for the fleet", w)
	}
}

func TestRedactedHidesTheKey(t *testing.T) {
	cfg := firmwareconfig.Default()
	cfg.Fleet.Key = "c2VjcmV0c2VjcmV0c2VjcmV0"
	shown := cfg.Redacted()
	if strings.Contains(string(shown.YAML()), cfg.Fleet.Key) {
		t.Error("the fleet key is shown")
	}
	if !strings.Contains(string(cfg.YAML()), cfg.Fleet.Key) {
		t.Error("redacting a copy changed the original")
	}
}

func TestEveryKeyIsDocumented(t *testing.T) {
	for _, k := range firmwareconfig.Keys() {
		if k.Doc == "" || k.Type == "" {
			t.Errorf("key %s lacks a sentence or a type: %+v", k.Path, k)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]firmwareconfig.Size{
		"0": 0, "1048576": 1 << 20, "64KiB": 64 << 10, "16 mib": 16 << 20, "2Gi": 2 << 30, "5MB": 5_000_000, "12b": 12,
	} {
		got, err := firmwareconfig.ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1.5MiB", "MiB", "99999999999999999999", "9223372036854775807KiB"} {
		if got, err := firmwareconfig.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}

func roundTrip(t *testing.T, cfg firmwareconfig.Config) {
	t.Helper()
	printed := cfg.YAML()
	again, err := firmwareconfig.Parse(printed)
	if err != nil {
		t.Fatalf("printed form does not load: %v\n%s", err, printed)
	}
	if !reflect.DeepEqual(again, cfg) {
		t.Fatalf("printed form loads differently\n%s\nfirst:  %+v\nsecond: %+v", printed, cfg, again)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("a: &x [*x]\n<<: {site: b}\n"))
	f.Add([]byte("site: \"\\x01\\u2028\"\n? [a, b]\n: c\n--- \n...\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if cfg, err := firmwareconfig.Parse(text); err == nil {
			roundTrip(t, cfg)
		}
	})
}
