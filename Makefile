# make alone prints the targets. make run and make test are all one needs to start.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED = 0

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILDFLAGS := -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
BIN        := bin/weir
DATA       ?= data
ARGS       ?=
TESTFLAGS  ?=
FUZZTIME   ?= 3s
SEEDS      ?= 20
CYCLES     ?= 200
CUTS       ?= 20
POWERCUT_TIMEOUT ?= 15m
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# What the race detector looks at: everything that shares memory between goroutines.
RACE_PACKAGES ?= ./appliance/... ./bridge/... ./plugins/... ./mirror/... ./cmd/...

# GOARCH, with GOARM after a slash.
CROSS := amd64 arm64 arm/7 arm/6 riscv64

.PHONY: help
help: ## Print the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/weir: static, stripped, with its version in it.
	go build $(BUILDFLAGS) -o $(BIN) ./cmd/weir

.PHONY: run
run: build ## Build, then serve on loopback with the data in ./data (DATA=, ARGS=).
	$(BIN) serve --data $(DATA) $(ARGS)

.PHONY: demo
demo: build guests ## An edge, a core, 200 devices, a transform and a mirror, live; Ctrl-C ends it.
	$(BIN) bench demo --replay testbed/fleet/data/seattle-weather-hourly-normals.csv $(ARGS)

.PHONY: test
test: ## All tests that need nothing but Go.
	go test -timeout 5m $(TESTFLAGS) ./...

.PHONY: race
race: ## The same tests under the race detector (needs a C compiler).
	@# Without checkptr: bbolt reads pages by unsafe slices, and one test gives it damaged ones.
	CGO_ENABLED=1 go test -race -gcflags=all=-d=checkptr=0 -short -timeout 10m $(TESTFLAGS) $(RACE_PACKAGES)

.PHONY: lint
lint: ## gofmt, go vet (guests too) and staticcheck.
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "not gofmt'ed: run gofmt -w" $$unformatted; exit 1; fi
	go vet ./...
	if [ -d plugins/guests ]; then GOOS=wasip1 GOARCH=wasm go vet ./plugins/guests/...; fi
	go run $(STATICCHECK) ./...

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME each.
	@grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
	    echo "fuzz $$target in $$(dirname $$file)"; \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x -timeout 5m $$(dirname $$file) \
	      | { grep -v '^fuzz: elapsed' || true; }; \
	  done; done

.PHONY: cross
cross: ## Build for every board and print the sizes.
	@for target in $(CROSS); do \
	  arch=$${target%/*}; arm=$${target#$$arch}; out=bin/weir-linux-$${target/\//v}; \
	  GOOS=linux GOARCH=$$arch GOARM=$${arm#/} go build $(BUILDFLAGS) -o $$out ./cmd/weir; \
	  echo "linux/$$target $$(stat -c %s $$out | numfmt --to=iec-i --suffix=B)"; \
	done

.PHONY: guests
guests: ## Build the shipped plugins to bin/guests/*.wasm, manifest included.
	go run ./plugins/guests/build -o bin/guests

.PHONY: e2e
e2e: build guests ## The binary itself: start, publish, transform, read, kill, start again.
	WEIR_E2E=1 WEIR_BIN=$(CURDIR)/$(BIN) go test -count=1 -timeout 15m $(TESTFLAGS) ./cmd/... ./testbed/...

.PHONY: compat
compat: build guests ## Foreign clients and servers: ten Kafka clients, mosquitto, real Apache Kafka.
	@# More tests at a time than cores: they wait for sessions to time out most of the time.
	WEIR_COMPAT=1 WEIR_BIN=$(CURDIR)/$(BIN) go test -count=1 -timeout 20m -parallel 6 $(TESTFLAGS) ./mirror/... ./testbed/...

.PHONY: compat-table
compat-table: build ## Run the Kafka clients and write what docs/COMPATIBILITY.md says of them.
	WEIR_COMPAT=1 WEIR_BIN=$(CURDIR)/$(BIN) go test -count=1 -timeout 10m -parallel 6 ./testbed/compat -run 'TestClients$$' -update
	go test ./appliance/kafka -run Compatibility -update

.PHONY: crash
crash: ## Power cuts after every operation, errors in every operation, of SEEDS workloads.
	go test -count=1 -timeout 120m -v -run 'PowerCut|ErrorAt' $(TESTFLAGS) ./appliance/wal ./appliance/commitlog -crash.seeds=$(SEEDS)
	go test -count=1 -timeout 120m -v -run 'PowerCut|ErrorAt' $(TESTFLAGS) ./appliance/topic -crash.full -crash.seeds=$(SEEDS) -crash.min=20000
	$(MAKE) --no-print-directory chaos CYCLES=1000
	$(MAKE) --no-print-directory powercut CUTS=500 POWERCUT_TIMEOUT=6h

.PHONY: crash-check
crash-check: ## The same for one workload: 20,000 disks at the least, in a minute or two.
	go test -count=1 -timeout 15m -v -run 'PowerCutAfter|ErrorAt' $(TESTFLAGS) ./appliance/topic -crash.full -crash.min=20000

.PHONY: mutants
mutants: ## Take away each fsync, checksum and gate of the log: the tests must notice (ARGS='-run wal').
	go run ./testbed/mutants $(ARGS)

.PHONY: damage
damage: ## Every byte of a small store flipped, every file cut at every boundary, zeroed, swapped, removed.
	go test -count=1 -timeout 60m -run 'Flipped|Truncated|Swapped|Foreign|Quarantine' $(TESTFLAGS) ./appliance/wal ./appliance/commitlog ./appliance/topic -damage.full

.PHONY: chaos
chaos: build guests ## kill -9 under load, CYCLES times, with a checker of unique values.
	WEIR_CHAOS=1 WEIR_CYCLES=$(CYCLES) WEIR_BIN=$(CURDIR)/$(BIN) go test -count=1 -timeout 3h $(TESTFLAGS) ./testbed/chaos

.PHONY: powercut
powercut: build guests ## Disks that lose power (CUTS times), fail or run full under load (needs root, mkfs, FUSE).
	WEIR_POWERCUT=1 WEIR_CUTS=$(CUTS) WEIR_BIN=$(CURDIR)/$(BIN) go test -count=1 -timeout $(POWERCUT_TIMEOUT) $(TESTFLAGS) ./testbed/powercut

.PHONY: bench
bench: build ## The log against the bare disk and socket, in turns (ARGS=); see docs/benchmarks.md.
	go run ./testbed/bench $(ARGS)

.PHONY: bench-kafka
bench-kafka: build ## Weir beside real Apache Kafka under the same clients, in turns (needs cc, librdkafka-dev, a JDK, Maven).
	go run ./testbed/bench --rows kafka-produce,kafka-consume,kafka-latency,kafka-transactions $(ARGS)

.PHONY: microbench
microbench: ## Go benchmarks of the hot paths.
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: docs
docs: ## Write the generated pages anew.
	go test ./firmware-config -run TestReferenceIsFresh -update
	go test ./appliance/kafka -run Compatibility -update
	go test ./bridge/mqtt -run TestConformance -update

.PHONY: check
check: lint test race fuzz cross crash-check e2e compat chaos powercut ## All that CI runs.

.PHONY: clean
clean: ## Remove what was built; data stay.
	rm -rf bin
