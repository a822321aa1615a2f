# Every command of the project; `make help` lists them. The first use of any target sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE_SOURCES := $(shell find media/engine -name '*.rs' -not -path '*/target/*' -o -name Cargo.toml -not -path '*/target/*' -o -name Cargo.lock -not -path '*/target/*')
CONSOLE_SOURCES := $(shell find api/console -path '*/node_modules' -prune -o -path '*/dist' -prune -o -type f -print 2>/dev/null | grep -v ' ')
PYTEST := $(BIN)/python -m pytest
export UV_PROJECT_ENVIRONMENT := $(VENV)
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
unexport VIRTUAL_ENV

##@ Use
.PHONY: demo serve
demo: setup  ## platform, simulated devices and first picture; DEMO_SECONDS=n ends it after n s
	@$(BIN)/mingjian demo

serve: setup  ## the platform alone (configuration: mingjian.toml or MINGJIAN_* variables)
	@$(BIN)/mingjian serve

##@ Check
.PHONY: test lint types test-rust test-python test-console test-e2e
test: setup test-packages lint types test-rust test-console test-python  ## everything that continuous integration runs
	@ops/setup/test_packages.sh

lint: $(VENV)/.synced  ## ruff, import rule, rustfmt, clippy
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache | tail -n 12
	@cd media/engine && cargo fmt --all --check && cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

types: $(VENV)/.synced  ## mypy strict and stubtest of the extension
	@echo "== types"
	@$(BIN)/mypy
	@$(BIN)/python -m mypy.stubtest media._engine

test-rust:  ## unit, scenario and fuzz-smoke tests of the engine
	@echo "== engine tests"
	@cd media/engine && cargo test --locked -p gbmedia

test-console: api/console/dist/index.html test-packages  ## console: format, unit tests, and its pages in a real browser
	@echo "== console tests"
	@cd api/console && npm run --silent lint && npm test --silent && npm run --silent test:e2e

test-python: setup test-packages  ## all Python tests, end-to-end ones included
	@echo "== python tests"
	@$(PYTEST) -q

test-e2e: setup test-packages  ## only the end-to-end tests with real peers and a real browser
	@$(PYTEST) -q tests/e2e

##@ Figures (one JSON object a line on standard output, a table on standard error)
.PHONY: bench bench-sip conformance fuzz
bench: setup  ## first-picture time and added latency, measured
	@$(BIN)/python -m tests.bench

bench-sip: setup  ## registrations, keepalives, storm, a catalogue of 100,000: signalling under load
	@$(BIN)/python -m tests.bench.bench_sip

fuzz: setup  ## longer fuzzing of the SIP and GB/T 28181 parsers, with planted bugs as control
	@$(BIN)/python -m tests.fuzz --execs 200000 --sequences 20000

conformance: setup  ## clause by clause: id, verdict, test
	@$(BIN)/python -m tests.conformance

##@ Build
.PHONY: setup engine console openapi clean test-packages check-tools help
setup: check-tools $(VENV)/.synced api/console/dist/index.html  ## virtual environment, engine and console

engine: $(VENV)/.synced  ## the Rust engine as Python extension

console: api/console/dist/index.html  ## the web console

check-tools:
	@PYTHON=$(PYTHON) ops/setup/check_tools.sh

$(BIN)/uv: ops/setup/uv.txt
	@PYTHON=$(PYTHON) ops/setup/check_tools.sh
	@echo "== virtual environment"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r ops/setup/uv.txt
	@touch $@

$(VENV)/.synced: $(BIN)/uv pyproject.toml uv.lock $(ENGINE_SOURCES)
	@echo "== Python dependencies and the Rust engine (the first build takes a few minutes)"
	@$(BIN)/uv sync --locked --quiet --python $(BIN)/python
	@touch $@

api/console/node_modules/.package-lock.json: api/console/package-lock.json
	@echo "== console dependencies"
	@cd api/console && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

api/console/dist/index.html: api/console/node_modules/.package-lock.json $(CONSOLE_SOURCES)
	@echo "== console build"
	@cd api/console && npm run --silent build
	@touch $@

test-packages:
	@ops/setup/test_packages.sh

clean:  ## what the build made (not the data directory)
	rm -rf $(VENV) media/engine/target media/*.so api/console/dist api/console/node_modules

help:  ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
