package compat

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// JavaVersions are the Apache Kafka releases whose clients and tools are run; the
// last is the broker's of [StartKafka].
var JavaVersions = []string{"3.9.1", "4.1.1"}

// Driver is how one foreign client is driven: a program that knows the verbs of
// clients/README.md.
type Driver struct {
	Argv []string
	Env  []string
}

// Python is the driver clients/NAME.py in an environment of its own.
func Python(tb testing.TB, name string) Driver {
	tb.Helper()
	venv := installed(tb, "python", "requirements.txt", func(dir, source string) [][]string {
		return [][]string{{"python3", "-m", "venv", dir}, {filepath.Join(dir, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "-r", source}}
	})
	return Driver{Argv: []string{filepath.Join(venv, "bin", "python"), clientFile(name + ".py")}}
}

// Node is the driver clients/NAME, with the packages of package.json.
func Node(tb testing.TB, name string) Driver {
	tb.Helper()
	dir := installed(tb, "node", "package.json", func(dir, source string) [][]string {
		return [][]string{{"cp", source, dir}, {"npm", "install", "--prefix", dir, "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--silent"}}
	})
	return Driver{Argv: []string{"node", clientFile(name)}, Env: []string{"NODE_PATH=" + filepath.Join(dir, "node_modules")}}
}

// Go is the driver of a library written in Go: a module of its own, so that its
// dependencies are none of Weir's.
func Go(tb testing.TB, library string) Driver {
	tb.Helper()
	dir := goBuilt(tb)
	return Driver{Argv: []string{filepath.Join(dir, "clients"), library}}
}

// Java is a class of clients/java with the client of the version given.
func Java(tb testing.TB, version, class string) Driver {
	tb.Helper()
	return Driver{Argv: []string{"sh", kafkaScript(), "tool", class}, Env: append(javaEnv(version), "KAFKA_CLASSES="+javaClasses(tb))}
}

// JavaTool is one of the command line tools of the release given.
func JavaTool(version, class string) Driver {
	return Driver{Argv: []string{"sh", kafkaScript(), "tool", class}, Env: javaEnv(version)}
}

// Shell is the driver clients/NAME.sh.
func Shell(name string) Driver {
	return Driver{Argv: []string{"sh", clientFile(name + ".sh")}}
}

func javaEnv(version string) []string { return []string{"KAFKA_VERSION=" + version, "KAFKA_HEAP=256m"} }

func clientFile(name string) string {
	return filepath.Join(filepath.Dir(kafkaScript()), "..", "clients", name)
}

// cacheDir is a folder of the repository's cache.
func cacheDir(tb testing.TB, name string) string {
	tb.Helper()
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(file), "..", "..", ".cache", "compat", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatalf("compat: %v", err)
	}
	return dir
}

var installing sync.Mutex

// installed runs commands that fill a folder of the cache, unless the file with
// the versions is the one that it was filled by.
func installed(tb testing.TB, name, list string, commands func(dir, source string) [][]string) string {
	tb.Helper()
	installing.Lock()
	defer installing.Unlock()
	dir, source := cacheDir(tb, name), clientFile(list)
	want, err := os.ReadFile(source)
	if err != nil {
		tb.Fatalf("compat: %v", err)
	}
	done := filepath.Join(dir, ".complete")
	if got, err := os.ReadFile(done); err == nil && string(got) == string(want) {
		return dir
	}
	for _, argv := range commands(dir, source) {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			tb.Fatalf("compat: install the %s clients: %s: %v; .ci/run names what must be there\n%s", name, strings.Join(argv, " "), err, out)
		}
	}
	if err := os.WriteFile(done, want, 0o644); err != nil {
		tb.Fatalf("compat: %v", err)
	}
	return dir
}

// goBuilt builds the Go clients; go's own cache makes this cheap.
func goBuilt(tb testing.TB) string {
	tb.Helper()
	installing.Lock()
	defer installing.Unlock()
	dir := cacheDir(tb, "go")
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "clients"), ".")
	build.Dir = clientFile("")
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("compat: build the Go clients: %v\n%s", err, out)
	}
	return dir
}

var compiled = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs(filepath.Join(filepath.Dir(kafkaScript()), "..", "..", "..", ".cache", "compat", "java"))
	if err != nil {
		return "", err
	}
	sources, err := filepath.Glob(clientFile("java/*.java"))
	if err != nil {
		return "", err
	}
	// Against the oldest: what it does not have, a driver must not use.
	compile := exec.Command("sh", append([]string{kafkaScript(), "compile", dir}, sources...)...)
	compile.Env = append(os.Environ(), javaEnv(JavaVersions[0])...)
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the Java clients: %w; a JDK 17 and Maven must be installed\n%s", err, out)
	}
	return dir, nil
})

func javaClasses(tb testing.TB) string {
	tb.Helper()
	dir, err := compiled()
	if err != nil {
		tb.Fatalf("compat: %v", err)
	}
	return dir
}
