# Everything that contributors and CI run. `make help` says what there is.
#
# `make demo` and `make test` need Go, make and git, nothing else: no C
# compiler and no tool besides. Other targets build what they need, pinned in
# .tools/<tool>/go.mod, into .bin.

SHELL := /bin/sh
.SHELLFLAGS := -euc
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := check

GO ?= go
BIN := $(CURDIR)/.bin
BUILD := $(CURDIR)/.build
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# Without cgo the binaries are static and no C compiler is asked for.
export CGO_ENABLED := 0
# gRPC without its traces, which nobody reads: their pages are templates, and one
# template makes the linker keep every exported method there is.
TAGS := grpcnotrace
export GOFLAGS := $(GOFLAGS) -tags=$(TAGS)
export PATH := $(BIN):$(PATH)

# `make bench BENCH=short` runs a little of everything, and shows that it runs.
BENCH ?= full
BENCH_DECIDE_full :=
BENCH_DECIDE_short := -quick
BENCH_CALLS_full :=
BENCH_CALLS_short := -rounds 1 -calls 50 -grants 100
BENCH_FLEET_full := -sizes 1,100,5000 -rounds 50
BENCH_FLEET_short := -sizes 1,50 -rounds 5

##@ Every day

.PHONY: check
check: lint test ## What every change must pass (the default)

.PHONY: demo
demo: build ## Show the whole thing on real parts, in under a minute after the build
	$(GO) build -o $(BUILD)/bin/demo ./e2e/demo
	$(BUILD)/bin/demo -bin $(BUILD)/bin -example examples/support

.PHONY: test
test: ## Unit, property, specification and integration tests
	$(GO) test ./...

.PHONY: lint
lint: tools ## Go and proto lint; gen/ as proto/ says; no breaking change of the contract
	$(BIN)/golangci-lint run --allow-parallel-runners ./...
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code --path proto/reeve
	rm -rf $(BUILD)/gen
	$(BIN)/buf generate --template proto/buf.gen.yaml --output $(BUILD)/gen
	diff -r $(BUILD)/gen/gen gen
	$(BIN)/buf build proto --output $(BUILD)/contract.binpb
	$(BIN)/buf breaking $(BUILD)/contract.binpb --against proto/released.binpb

##@ More

.PHONY: race
race: export CGO_ENABLED := 1
race: ## The same tests under the race detector (needs a C compiler)
	$(GO) test -race ./...

.PHONY: e2e
e2e: build build-faults $(BIN)/etcd ## Built binaries, real faults: kill -9, hostile input, the README's tour
	REEVE_BIN=$(BUILD)/bin REEVE_FAULT_BIN=$(BUILD)/fault REEVE_ETCD=$(BIN)/etcd $(GO) test -count=1 -timeout 15m ./e2e/...

.PHONY: bench
bench: build ## Measure beside the anchors: bench <name> <value> <unit> <ratio> <target>
	$(GO) build -o $(BUILD)/bin/ ./e2e/bench/decide ./e2e/bench/calls ./e2e/fleet
	cd e2e/bench/peers && $(GO) vet ./... && $(GO) build -o $(BUILD)/bin/peers .
	$(BUILD)/bin/decide $(BENCH_DECIDE_$(BENCH))
	$(BUILD)/bin/peers $(BENCH_DECIDE_$(BENCH))
	$(BUILD)/bin/calls -bin $(BUILD)/bin $(BENCH_CALLS_$(BENCH))
	$(BUILD)/bin/fleet revoke -bin $(BUILD)/bin $(BENCH_FLEET_$(BENCH))

# `make bench-fleet SIZES=5000 STORM_SIZES=` leaves out what is not asked for.
# Sidecars of a size, and as many streams of the floor, are open files of one
# process: see ulimit -n.
SIZES ?= 100,1000,5000,10000
STORM_SIZES ?= 1000,5000
.PHONY: bench-fleet
bench-fleet: build $(BIN)/etcd ## Measure one control plane, and three, under simulated sidecars, beside a bare broadcast
	$(GO) build -o $(BUILD)/bin/fleet ./e2e/fleet
	test -z "$(SIZES)" || $(BUILD)/bin/fleet bench -bin $(BUILD)/bin -sizes $(SIZES)
	test -z "$(STORM_SIZES)" || $(BUILD)/bin/fleet bench -bin $(BUILD)/bin -etcd $(BIN)/etcd -replicas 3 -sizes $(STORM_SIZES)

# SOAK is how long each size stays silent.
SOAK ?= 10m
SOAK_SIZES ?= 2500,10000
.PHONY: soak
soak: build ## Keep silent sidecars connected, and fail if one stream is lost
	$(GO) build -o $(BUILD)/bin/fleet ./e2e/fleet
	$(BUILD)/bin/fleet soak -bin $(BUILD)/bin -sizes $(SOAK_SIZES) -for $(SOAK)

# `make revoked SCHEDULES=1000 SEED=7 REVOKED='-for 1h'` plays more, or the same
# again; REVOKED=-network=false leaves out what needs root, ip and nft.
SCHEDULES ?= 200
SEED ?= 0
REVOKED ?=

# Each switches one mechanism off and wants to see what it holds broken.
.PHONY: controls
controls: ## Show that the tests of P2 would see a mechanism that is missing
	$(GO) test -tags reeve_fault,$(TAGS) ./sidecar/fault
	REEVE_FAULT_OFF=freshness $(GO) test -tags reeve_fault,$(TAGS) -run '^TestLiveWithoutBound$$' ./sidecar/internal/replica
	REEVE_FAULT_OFF=recheck $(GO) test -tags reeve_fault,$(TAGS) -run '^TestForwardedWithoutALook$$' ./sidecar/internal/pep
	REEVE_FAULT_OFF=ack_gate $(GO) test -tags reeve_fault,$(TAGS) -run '^TestAcknowledgeThenCut$$' ./sidecar/internal/xds
	mkdir -p $(BUILD) && rm -f $(BUILD)/clocks
	REEVE_CLOCK_OFFSETS=$(BUILD)/clocks $(GO) test -tags reeve_fault,$(TAGS) -run '^TestBeginsAgainByTheWallClock$$' ./sidecar

.PHONY: revoked
revoked: build build-faults controls $(BIN)/etcd ## Try to find a call that is allowed after its revocation, under faults
	$(GO) build -o $(BUILD)/bin/revoked ./e2e/revoked
	$(BUILD)/bin/revoked -bin $(BUILD)/bin -fault-bin $(BUILD)/fault -etcd $(BIN)/etcd \
		-schedules $(SCHEDULES) -seed $(SEED) $(REVOKED)

# Node, the suites and the servers and clients of others, as .tools/mcp pins them.
MCP_TOOLS := $(BUILD)/mcp
$(MCP_TOOLS)/.installed: .tools/mcp/package.json .tools/mcp/package-lock.json .tools/mcp/requirements.txt
	mkdir -p $(MCP_TOOLS)
	python3 -m venv $(MCP_TOOLS)/venv
	$(MCP_TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement .tools/mcp/requirements.txt
	cp .tools/mcp/package.json .tools/mcp/package-lock.json $(MCP_TOOLS)
	cd $(MCP_TOOLS) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

.PHONY: conformance
conformance: build $(MCP_TOOLS)/.installed ## MCP's own conformance suites, directly and through the sidecar: no check may differ; and the README's own agent (needs npm and python3)
	$(GO) build -o $(BUILD)/bin/ github.com/modelcontextprotocol/go-sdk/conformance/everything-server ./e2e/conformance
	$(BUILD)/bin/conformance -bin $(BUILD)/bin -tools $(MCP_TOOLS)
	REEVE_MCP_TOOLS=$(MCP_TOOLS) $(GO) test -count=1 -timeout 5m -run '^TestNewcomer$$' ./e2e

.PHONY: build
build: ## Build the binaries into .build/bin
	$(GO) build -ldflags '-s -w -X main.version=$(VERSION)' -o $(BUILD)/bin/ \
		./controlplane/cmd/reeve-controlplane ./controlplane/cmd/reevectl ./sidecar/cmd/reeve-sidecar
	$(GO) build -o $(BUILD)/bin/ ./examples/support/cmd/support-server ./examples/support/cmd/support-agent

.PHONY: man
man: ## Write reevectl's man pages into .build/man
	$(GO) run ./controlplane/cmd/reevectl man --dir $(BUILD)/man

.PHONY: build-faults
build-faults: ## Build binaries in which tests can switch mechanisms off, into .build/fault
	$(GO) build -tags reeve_fault,$(TAGS) -o $(BUILD)/fault/ \
		./controlplane/cmd/reeve-controlplane ./controlplane/cmd/reevectl ./sidecar/cmd/reeve-sidecar

.PHONY: gen
gen: $(BIN)/buf $(BIN)/protoc-gen-go $(BIN)/protoc-gen-go-grpc ## Generate gen/ from proto/
	$(BIN)/buf generate --template proto/buf.gen.yaml

.PHONY: release-contract
release-contract: $(BIN)/buf ## At a release: keep the contract that later ones must not break
	$(BIN)/buf build proto --exclude-source-info --output proto/released.binpb

.PHONY: cross
cross: ## Compile for macOS on ARM, tests included
	GOOS=darwin GOARCH=arm64 $(GO) build ./...
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...

##@ Tools

.PHONY: tools
tools: $(BIN)/golangci-lint $(BIN)/buf $(BIN)/protoc-gen-go $(BIN)/protoc-gen-go-grpc ## Build the development tools into .bin

$(BIN)/golangci-lint: .tools/golangci/go.mod .tools/golangci/go.sum
	cd .tools/golangci && $(GO) build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/buf: .tools/buf/go.mod .tools/buf/go.sum
	cd .tools/buf && $(GO) build -o $@ github.com/bufbuild/buf/cmd/buf

$(BIN)/protoc-gen-go: .tools/gen/go.mod .tools/gen/go.sum
	cd .tools/gen && $(GO) build -o $@ google.golang.org/protobuf/cmd/protoc-gen-go

$(BIN)/protoc-gen-go-grpc: .tools/gen/go.mod .tools/gen/go.sum
	cd .tools/gen && $(GO) build -o $@ google.golang.org/grpc/cmd/protoc-gen-go-grpc

$(BIN)/etcd: .tools/etcd/go.mod .tools/etcd/go.sum
	cd .tools/etcd && $(GO) build -o $@ go.etcd.io/etcd/server/v3

.PHONY: clean
clean: ## Remove what was built, but not the tools
	rm -rf $(BUILD)

.PHONY: help
help: ## Say what there is
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
