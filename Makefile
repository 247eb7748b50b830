# Every target makes the virtual environment first, and again only when pyproject.toml changed.
.DEFAULT_GOAL := help
.PHONY: help setup train test test-all lint format torture fuzz bench clean
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, found " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(READY)

setup: $(READY) ## make .venv and install the project with its development tools

train: $(READY) ## train; pass overrides as ARGS="data=mnist latent_size=32"
	$(BIN)/python train.py $(ARGS)

test: $(READY) ## run the tests (a few minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-all: $(READY) ## run the slow tests as well
	$(BIN)/python -m pytest -n 2 -m '' $(ARGS)

lint: $(READY) ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

torture: $(READY) ## interrupt many runs at random moments, resume and compare them (15 minutes)
	PYTHONPATH=tests $(BIN)/python -m reliability.torture trials=200 $(ARGS)

fuzz: $(READY) ## try thousands of command lines and damaged files (half an hour)
	PYTHONPATH=tests $(BIN)/python -m reliability.fuzz_readers inputs=10000
	PYTHONPATH=tests $(BIN)/python -m reliability.fuzz_config examples=2000

bench: $(READY) ## measure speed against what others do, and write docs/performance.md
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove the virtual environment and every cache (never runs/ or data/)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
