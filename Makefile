# Sallyport: `make help` lists what can be made.

GO          ?= go
TOOLS       := $(CURDIR)/.tools
GOLANGCI    := $(TOOLS)/golangci-lint-v2.15.0
SQLC        := $(TOOLS)/sqlc-v1.31.1
FUZZTIME    ?= 5s
COUNT       ?= 1
export GOFLAGS := -buildvcs=false

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build ./sallyport
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o sallyport ./cmd/sallyport

.PHONY: test
test: setup vet lint race fuzz readme ## everything that must pass before a change lands
	@echo "make test: all passed"

.PHONY: setup
setup: ## install what the tests need (as root on Debian), or say what is missing
	@./scripts/setup.sh

.PHONY: vet
vet: ## go vet, formatting, go.mod tidy
	$(GO) vet ./...
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "not formatted (run gofmt -w):"; echo "$$bad"; exit 1; }
	$(GO) mod tidy -diff

.PHONY: lint
lint: $(GOLANGCI) ## golangci-lint: import rules and a short list of linters
	$(GOLANGCI) run ./...

.PHONY: unit
unit: ## all tests, without the race detector
	$(GO) test -count=$(COUNT) ./...

# ./test mostly waits for programs, so that it goes first, beside all others.
.PHONY: race
race: ## all tests under the race detector
	$(GO) test -race -count=$(COUNT) -timeout 40m ./test ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each (default 5s)
	./scripts/fuzz.sh $(FUZZTIME)

.PHONY: readme
readme: ## run the commands that README.md shows, word for word
	./scripts/readme.sh

.PHONY: bench
bench: ## the gate beside plain reverse_proxy, ratios in one run; see docs/performance.md
	./scripts/bench.sh

.PHONY: kills
kills: build ## kill gateways under load, KILLS (90) times in each of four settings, and look for uses that were lost
	$(GO) run ./test/bench -binary ./sallyport -kills $(or $(KILLS),90)

.PHONY: simulate
simulate: ## fleets for a million token-years, on from where it was; SIMULATE='-from 1 -seeds 100' for some of them
	@mkdir -p $(TOOLS)
	$(GO) run ./internal/simulate/cmd -ledger $(TOOLS)/simulate.jsonl $(SIMULATE)

.PHONY: generate
generate: $(SQLC) ## write the typed queries anew from tokenstore/internal/db
	cd tokenstore/internal/db && $(SQLC) generate

.PHONY: cover
cover: ## coverage of the pure packages
	$(GO) test -coverprofile=.tools/cover.out ./token ./authority && $(GO) tool cover -func=.tools/cover.out | tail -n 1

# The tools are built with the Go toolchain at pinned versions, outside go.mod,
# so that whoever builds a Caddy with this module does not pay for them.
$(GOLANGCI):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS)/bin GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(TOOLS)/bin/golangci-lint $@

$(SQLC):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS)/bin GOFLAGS= $(GO) install github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1
	mv $(TOOLS)/bin/sqlc $@
