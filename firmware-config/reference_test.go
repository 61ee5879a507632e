package firmwareconfig_test

import (
	"flag"
	"os"
	"testing"

	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

var update = flag.Bool("update", false, "write the generated page")

func TestReferenceIsFresh(t *testing.T) {
	const page = "../docs/configuration.md"
	want := firmwareconfig.Reference()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/configuration.md is not what the table of keys says: run make docs")
	}
}
