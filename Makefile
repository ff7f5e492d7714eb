# Shortcuts for those who work on Locus. Users need none of them: go run ./cmd/locus demo, go test ./...

.PHONY: help test race lint fuzz proto guests demo ci

help: ## print this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

test: ## all tests
	go test ./...

race: ## the core rooms under the race detector, with the costly invariant checks
	go test -race -short ./raftstore/... ./client/... ./internal/... ./placement/... ./udf/...

lint: ## formatting, vet, staticcheck, import arrows
	@bad=$$(git ls-files '*.go' ':!:*.pb.go' | xargs gofmt -l); test -z "$$bad" || { echo "not formatted: $$bad"; exit 1; }
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	go test -count=1 -run '^TestArrows$$' ./internal/arrows

FUZZTIME ?= 10s
fuzz: ## each fuzz target for FUZZTIME (10s)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$file"); do \
			echo "==> $$(dirname $$file) $$target"; \
			go test "./$$(dirname $$file)" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) || exit 1; \
		done; \
	done

proto: ## regenerate api/locuspb from api/proto
	cd api && go generate ./...

guests: ## rebuild the WebAssembly modules of the examples
	bash examples/rebuild.sh

demo: ## three nodes, real data, a function that runs where the data lives
	go run ./cmd/locus demo

ci: ## everything that is checked before a change goes to main
	.ci/run
