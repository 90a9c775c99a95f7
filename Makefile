# `make` lists the commands. Nothing here waits for input.
#
# Every cargo command names the whole workspace: with one package fewer, cargo may choose other features for a dependency and build it,
# and all that depends on it, once more. The tests find the windlass binary beside their own, so all targets are built first.

# Outside the clone, so that CI and other clones on the machine reuse what is built once (about 20 minutes on two cores).
export WINDLASS_CACHE_DIR ?= $(HOME)/.cache/windlass
export WINDLASS_TARGET_DIR ?= $(WINDLASS_CACHE_DIR)/target
export CARGO_TARGET_DIR := $(WINDLASS_TARGET_DIR)
export CARGO_TERM_PROGRESS_WHEN ?= never
SCALE ?= 1
SEEDS ?= 10000
SECONDS_LONG ?= 300
QUERIES ?= 5000
QUERIES_FROM ?= 0
# What `make bench` compares connectors with: PyPI's connectorx, and a server of S3 over files.
CONNECTORX := 0.4.6
S3S_FS_VERSION := 0.14.1
CONNECTORX_PYTHON := $(WINDLASS_CACHE_DIR)/connectorx/bin/python

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo test lint data sim queries oracles sqlite chaos groups bench clean

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## install what a build needs (apt, with sudo when not root)
	@deploy/build/setup.sh build

data: ## install what the tests need and generate their data
	@deploy/build/setup.sh tests

build: setup ## build the windlass binary, optimised
	cargo build --release --workspace --bin windlass

demo: build ## run a job on a year of flights, embedded and then on a cluster of processes
	@demo/run.sh "$(CARGO_TARGET_DIR)/release/windlass"

lint: setup ## check the formatting and run clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --package windlass-client --no-default-features -- -D warnings
	cargo fmt --manifest-path client/python/Cargo.toml --check
	cargo clippy --manifest-path client/python/Cargo.toml -- -D warnings

test: data lint ## run every test
	cargo build --workspace --all-targets
	cargo build --manifest-path client/python/Cargo.toml
	@skipped=$$(mktemp); said=$$(mktemp); status=0; \
	WINDLASS_SKIPPED="$$skipped" cargo test --workspace | tee "$$said" || status=$$?; \
	sed -n 's/^test \(.*\) \.\.\. ignored, /\1: /p' "$$said" >> "$$skipped"; \
	echo; \
	if [ -s "$$skipped" ]; then echo "Tests that did not run:"; sort -u "$$skipped" | sed 's/^/  /'; \
	else echo "All tests ran."; fi; \
	rm -f "$$skipped" "$$said"; exit $$status

sim: setup ## drive the scheduling machine and the namespace of files through random faults (SEEDS=10000: how many runs)
	SEEDS="$(SEEDS)" cargo test --workspace --lib -- simulation

queries: data ## compare answers to random queries with DataFusion's, and conditions with PostgreSQL's (QUERIES=5000 of them, QUERIES_FROM=0)
	cargo build --workspace --all-targets
	QUERIES="$(QUERIES)" QUERIES_FROM="$(QUERIES_FROM)" cargo test --workspace --lib -- random_queries random_conditions --nocapture

oracles: data ## compare answers with DuckDB, PostgreSQL and DataFusion's own test files, and run dbt's own tests of adapters, all of it (QUERIES=5000, QUERIES_FROM=0)
	cargo build --workspace --all-targets
	ORACLES=all QUERIES="$(QUERIES)" QUERIES_FROM="$(QUERIES_FROM)" cargo test --workspace --lib -- oracle awkward_files \
		statements_as deep dbts_own --nocapture

sqlite: data ## compare answers to SQLite's sqllogictest files with DataFusion's (SQLITE_FILES: their folder "test", of sqlite.org/sqllogictest)
	cargo build --workspace --all-targets
	SQLITE_FILES="$(SQLITE_FILES)" cargo test --workspace --lib -- sqlites_own_files --ignored --nocapture

chaos: data ## kill, stop and cut off the processes of a cluster under load (SECONDS_LONG=300, CHAOS_SEED=7)
	cargo build --workspace --all-targets
	CHAOS_SECONDS="$(SECONDS_LONG)" cargo test --workspace --lib -- chaos --nocapture

groups: setup ## run the tests of programs in a virtual machine, where control groups limit them (10 minutes)
	@deploy/build/setup.sh groups
	cargo build --workspace --all-targets
	@tests/vm/run.sh "$$(cargo test --workspace --lib --no-run --message-format json 2>/dev/null | \
		sed -n 's/.*"name":"windlass_tests".*"executable":"\([^"]*\)".*/\1/p')"

bench: data ## measure TPC-H against DataFusion (SCALE=10 for ten times the data), the scheduling machine, the exchange, wfs://, S3, PostgreSQL, DynamoDB and Livy
	cargo build --release --workspace --bin windlass --bin windlass-bench
	"$(CARGO_TARGET_DIR)/release/windlass-bench" tpch --scale "$(SCALE)"
	"$(CARGO_TARGET_DIR)/release/windlass-bench" scheduler
	"$(CARGO_TARGET_DIR)/release/windlass-bench" exchange
	"$(CARGO_TARGET_DIR)/release/windlass-bench" blockstore
	"$(CARGO_TARGET_DIR)/release/windlass-bench" livy
	[ -x "$(CONNECTORX_PYTHON)" ] || python3 -m venv "$(WINDLASS_CACHE_DIR)/connectorx"
	"$(CONNECTORX_PYTHON)" -m pip install --quiet --disable-pip-version-check connectorx==$(CONNECTORX) pyarrow boto3
	cargo install --quiet --locked --root "$(WINDLASS_CACHE_DIR)/s3s-fs" --features binary s3s-fs@$(S3S_FS_VERSION)
	CONNECTORX_PYTHON="$(CONNECTORX_PYTHON)" BOTO3_PYTHON="$(CONNECTORX_PYTHON)" \
		"$(CARGO_TARGET_DIR)/release/windlass-bench" connectors --scale "$(SCALE)"
	"$(CARGO_TARGET_DIR)/release/windlass-bench" tpch-files --scale "$(SCALE)"
	S3S_FS="$(WINDLASS_CACHE_DIR)/s3s-fs/bin/s3s-fs" "$(CARGO_TARGET_DIR)/release/windlass-bench" tpch-files --scale "$(SCALE)"

clean: ## remove what was built and generated, also for other clones
	cargo clean
	rm -rf "$(WINDLASS_CACHE_DIR)/data" "$(WINDLASS_CACHE_DIR)/venv"
