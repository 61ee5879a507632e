package repo_test

import (
	"slices"
	"strings"
	"testing"
)

// layer says what the packages under a folder may import of this module, beside
// one another. Folders are listed from the bottom of the house to its top.
type layer struct {
	folder  string
	imports []string
	why     string
}

var layers = []layer{
	{"appliance/record", nil, "record is the language of all parts: a leaf that knows no file, socket or topic"},
	{"appliance/vfs", nil, "vfs is the only door to the disk and knows nothing of what goes through it"},
	{"appliance/clock", []string{"appliance/vfs"}, "what time it is depends on nothing but a file"},
	{"appliance/device", nil, "what a device counts depends on nothing"},
	{"appliance/metric", nil, "metric is a leaf, so that every part can show figures"},
	{"appliance/wal", []string{"appliance/record", "appliance/vfs", "appliance/metric"}, "the write-ahead log carries entries and does not know what they mean"},
	{"appliance/commitlog", []string{"appliance/record", "appliance/vfs", "appliance/metric"}, "one partition on disk knows neither topics nor the write-ahead log"},
	{"appliance/metadata", []string{"appliance/record", "appliance/vfs", "appliance/metric"}, "metadata holds tables, never records"},
	{"appliance/topic", []string{"appliance/record", "appliance/vfs", "appliance/metric", "appliance/wal", "appliance/commitlog", "appliance/metadata"}, "the log knows nothing of groups, wires or devices"},
	{"appliance/group", []string{"appliance/record", "appliance/metric", "appliance/topic"}, "a coordinator is a state machine on the log, not on a wire"},
	{"appliance/quota", []string{"appliance/record", "appliance/metric"}, "what clients may take depends on neither the log nor the wire"},
	{"appliance/txn", []string{"appliance/record", "appliance/metric", "appliance/topic"}, "a coordinator is a state machine on the log, not on a wire"},
	{"appliance/auth", []string{"appliance/record", "appliance/metric"}, "who may do what is decided on tables and names alone"},
	{"appliance/kafka", []string{"appliance/record", "appliance/metric", "appliance/topic", "appliance/group", "appliance/txn", "appliance/quota", "appliance/auth"}, "the wire stands on the log and is known only to the appliance"},
	{"appliance/console", []string{"appliance/metric"}, "the console shows what it is given and knows no part"},
	{"appliance", []string{"appliance/clock", "appliance/device", "appliance/record", "appliance/vfs", "appliance/metric", "appliance/wal", "appliance/commitlog", "appliance/metadata", "appliance/topic", "appliance/group", "appliance/txn", "appliance/quota", "appliance/auth", "appliance/kafka"}, "the broker is one value that knows nothing of MQTT, WASM or mirrors"},
	{"bridge", []string{"appliance/record", "appliance/vfs", "appliance/metric"}, "siblings (bridge, plugins, mirror) take record's interfaces and never import one another"},
	{"plugins", []string{"appliance/record", "appliance/vfs", "appliance/metric"}, "siblings (bridge, plugins, mirror) take record's interfaces and never import one another"},
	{"mirror", []string{"appliance/record", "appliance/vfs", "appliance/metric"}, "siblings (bridge, plugins, mirror) take record's interfaces and never import one another"},
	{"firmware-config", nil, "the file's keys are plain values; cmd/weir maps them to the parts' options"},
	{"testbed", []string{"appliance", "bridge", "plugins", "mirror", "firmware-config"}, "testbed may use every part but the command"},
	{"cmd", []string{"appliance", "bridge", "plugins", "mirror", "firmware-config"}, "the command assembles the parts; of testbed only bench.go may know"},
}

// testbedUsers are the files of the product that may import testbed.
var testbedUsers = []string{"cmd/weir/bench.go", "cmd/weir/demo.go"}

// Import arrows run one way. Files are parsed rather than asked of go list,
// whose answer the test cache would not see change.
func TestImportArrowsRunOneWay(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || f.folder == "." {
			continue
		}
		l := layerOf(f.folder)
		if l == nil {
			t.Errorf("%s: folder %s has no layer: add it to the table", f.path, f.folder)
			continue
		}
		for _, imported := range f.imports {
			if !l.allows(f, imported) {
				t.Errorf("%s must not import %s: %s", f.path, imported, l.why)
			}
		}
	}
}

func TestLayersExist(t *testing.T) {
	for _, l := range layers {
		if !slices.ContainsFunc(goFiles(t), func(f file) bool { return within(f.folder, l.folder) }) {
			t.Errorf("the table has a layer %s, the repo has not", l.folder)
		}
	}
}

// layerOf is the layer with the longest folder that holds folder.
func layerOf(folder string) *layer {
	var best *layer
	for i := range layers {
		if within(folder, layers[i].folder) && (best == nil || len(layers[i].folder) > len(best.folder)) {
			best = &layers[i]
		}
	}
	return best
}

func (l *layer) allows(f file, imported string) bool {
	if within(imported, "testbed") {
		return within(f.folder, "testbed") || slices.Contains(testbedUsers, f.path)
	}
	if l.folder != "appliance" && within(imported, l.folder) { // one another; appliance names its own, console is not among them
		return true
	}
	return slices.ContainsFunc(l.imports, func(allowed string) bool { return within(imported, allowed) })
}

func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}
