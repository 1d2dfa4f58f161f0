# The commands of this repository. `make demo` and `make test` need nothing but Rust, Go, Python 3 and make:
# whatever else they use, they build or install below target/.

CLUSTER := tests/cluster/cluster
# The behaviour tests wait most of the time, for the API server and for clocks.
export RUST_TEST_THREADS ?= 8

.DEFAULT_GOAL := help
.PHONY: help demo test soak bench fuzz unit lint generate image clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: ## See Bindery at work on a real control plane (KEEP=1 leaves it running)
	@cargo build --quiet --locked
	@$(CLUSTER) build
	@examples/demo

test: ## All tests: unit, property, golden, and behaviour on a real control plane and moto
	cargo build --locked --tests
	$(CLUSTER) run --crds crds/ -- cargo test --locked --no-fail-fast
	@# The benchmark still measures: twenty bindings, and what it claims of them but for times.
	N=20 M=5 PHASES=cold STRICT=1 $(CLUSTER) run --crds crds/ -- cargo bench --quiet --locked --profile dev --bench scale

soak: ## Rotations under random interleavings (SOAK=10 worlds of 10 pairs for each of two layouts), and the memory that LARGE=60 of the largest objects of each kind take
	cargo build --locked --tests
	$(CLUSTER) run --crds crds/ -- env BINDERY_SOAK=$${SOAK:-10} cargo test --locked --test behaviour -- --nocapture --exact overlap::a_staged_rotation_of_a_shared_secret_loses_no_row overlap::a_staged_rotation_of_two_secrets_loses_no_row
	cargo build --release --locked
	$(CLUSTER) run --crds crds/ -- env BINDERY_LARGE_OBJECTS=$${LARGE:-60} BINDERY_TEST_PROGRAM=$(CURDIR)/target/release/bindery cargo test --locked --test tenant_memory -- --nocapture

# What it measures is said by variables: `make bench N=10000 M=1000`, `make bench GROWTH=1`, `make bench PHASES=floor,cold`.
bench: ## Measure the operator at scale (N=1000 bindings over M=100 secrets; GROWTH=1: four sizes)
	cargo bench --locked --bench scale --no-run
	$(CLUSTER) run --crds crds/ -- cargo bench --quiet --locked --bench scale

# One parser after the other, each for N executions. What is new goes into target/fuzz/new, then, reduced to what adds
# coverage, into the corpus that `make test` replays.
FUZZERS ?= payload reference template event object
FUZZ := target/fuzz/debug/fuzz -rss_limit_mb=1024 -timeout=10 -max_len=4096 -len_control=50 -print_funcs=0 -artifact_prefix=target/fuzz/
CORPUS := tests/fuzz/corpus

fuzz: ## Search the parsers for inputs that break them, with libFuzzer (N=2000000 executions each; FUZZERS=payload)
	RUSTC_WRAPPER=$(CURDIR)/tests/fuzz/rustc CARGO_TARGET_DIR=$(CURDIR)/target/fuzz cargo build --locked --manifest-path tests/fuzz/Cargo.toml
	@for parser in $(FUZZERS); do \
	  new=target/fuzz/new/$$parser; least=target/fuzz/least/$$parser; echo "== $$parser"; \
	  tests/fuzz/corpus.py unpack $(CORPUS)/$$parser.b64 $$new || exit 1; \
	  BINDERY_FUZZ=$$parser $(FUZZ) -runs=$${N:-2000000} -print_final_stats=1 -verbosity=0 -dict=tests/fuzz/words.dict $$new || exit 1; \
	  rm -rf $$least; mkdir -p $$least; \
	  BINDERY_FUZZ=$$parser $(FUZZ) -merge=1 -use_counters=0 $$least $$new || exit 1; \
	  tests/fuzz/corpus.py pack $$least $(CORPUS)/$$parser.b64 || exit 1; \
	done

unit: ## The tests that need no cluster
	cargo test --locked --lib --test generated --test structure --test documents --test plan_properties --test totality --test memory --test troubleshooting --test fuzz_corpus

lint: ## Format, clippy, documentation, dependencies
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	@if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; \
	 else echo "cargo-deny is not installed: the check of licences and sources is left to CI"; fi

generate: ## Write the files that follow from the code: crds/, their copies in the chart, tests/messages.md
	BINDERY_GENERATE=1 cargo test --quiet --locked --test generated
	BINDERY_GENERATE=1 cargo test --quiet --locked --test troubleshooting the_table_of_messages

image: ## Build the container image (needs Docker)
	docker build --tag bindery:0.1.0 .

clean: ## Remove all that was built
	rm -rf target
