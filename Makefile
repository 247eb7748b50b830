# Every target makes the virtual environment first, and again only when what it installs has changed.
.DEFAULT_GOAL := help
.PHONY: help setup train test test-all test-slurm test-ray test-oldest test-newest test-versions constraints lint format torture fuzz bench bench-gpu gpu-bundle clean
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
# The exact versions that are tested; CONSTRAINTS= lets pip choose among those that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
CONSTRAINED := $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
# Empty for the package index's own torch, which on Linux is built for CUDA. Otherwise one of uv's names for another
# build, such as cpu, cu126 or auto.
TORCH ?=
# What `make constraints` settles on: versions that go together, and that older copies of the package index have too.
TESTED_TORCH := torch==2.14.1 torchvision==0.29.1
PIP := -m pip --disable-pip-version-check
FOUND := 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, and PYTHON=$(PYTHON) is " + sys.version.split()[0] + "; make PYTHON=python3.12 takes another")'

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c $(FOUND)
	@echo 'Installing into $(VENV), once: PyTorch$(if $(TORCH), for $(TORCH)) and some 130 smaller packages.'
	@$(if $(TORCH),:,echo 'On Linux, with CUDA: 3.2 GB to fetch (five minutes at 100 Mbit/s), 6.2 GB on disk; without, by make TORCH=cpu, a sixth of it.')
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(BIN)/python $(PIP) install --quiet uv)
	$(BIN)/python $(if $(TORCH),-m uv pip install --python $(BIN)/python --torch-backend=$(TORCH),$(PIP) install) \
	  $(CONSTRAINED) -e '.[dev]'
	@touch $(READY)

setup: $(READY) ## make .venv and install the project with its development tools

train: $(READY) ## train; pass overrides as ARGS="data=mnist latent_size=32"
	$(BIN)/python train.py $(ARGS)

test: $(READY) ## run the tests (a few minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-all: $(READY) ## run the slow tests as well
	$(BIN)/python -m pytest -n 2 -m '' $(ARGS)

test-slurm: $(READY) ## run the tests of SLURM on a real one of one node; as root it is installed first (Debian)
	@{ command -v slurmctld && command -v slurmdbd && command -v mariadbd; } >/dev/null || test ! -x /usr/bin/apt-get || \
	  test "$$(id -u)" != 0 || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	  --no-install-recommends slurm-wlm munge slurmdbd mariadb-server >/dev/null; }
	$(BIN)/python $(PIP) install --quiet $(CONSTRAINED) -e '.[dev,slurm,optuna]'
	$(BIN)/python -m pytest -m '' tests/sweep/test_slurm.py $(ARGS)

test-ray: $(READY) ## run the tests of Ray, on a cluster of three nodes on this machine
	$(BIN)/python $(PIP) install --quiet $(CONSTRAINED) -e '.[dev,ray]'
	$(BIN)/python -m pytest -m '' tests/sweep/test_ray_cluster.py $(ARGS)

test-oldest: ## run the tests on the lowest versions that pyproject.toml allows, in .venv-oldest
	$(call tests_with,.venv-oldest,--resolution=lowest-direct)

test-newest: ## run the tests on the newest versions that pyproject.toml allows, in .venv-newest
	$(call tests_with,.venv-newest,--upgrade)

test-versions: test test-oldest test-newest ## run the tests on the tested, the lowest and the newest versions

# $(call tests_with,virtual environment,options of `uv pip install`): the tests, with versions that uv chooses.
define tests_with
	@$(PYTHON) -c $(FOUND)
	$(PYTHON) -m venv --clear $(1)
	$(1)/bin/python $(PIP) install --quiet uv
	$(1)/bin/python -m uv pip install --python $(1)/bin/python $(2) $(if $(TORCH),--torch-backend=$(TORCH)) -e '.[dev]'
	$(1)/bin/python -m pytest -n 2 $(ARGS)
endef

constraints: $(READY) ## choose the versions in constraints.txt anew, the newest that go together with the tested torch
	$(BIN)/python $(PIP) install --quiet uv
	printf '%s\n' $(TESTED_TORCH) | $(BIN)/python -m uv pip compile --quiet --universal --upgrade \
	  $(addprefix --extra ,dev joblib ray slurm optuna fid export networks tensorboard mlflow notebook video) --no-emit-index-url --no-emit-find-links \
	  --no-annotate --custom-compile-command 'make constraints' --output-file constraints.txt pyproject.toml -

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
	PYTHONPATH=tests $(BIN)/python -m reliability.fuzz_strangers mutants=10000

gpu-bundle: $(READY) ## gather into gpu_bundle/ what a GPU machine without a network lacks (DATA_DIR=… for the images)
	$(BIN)/python -m benchmarks.gpu_bundle $(ARGS)

bench-gpu: $(READY) ## measure all that needs a GPU: ARGS="out=DIR minutes=9", or device=cpu tiny=true to rehearse
	$(BIN)/python -m benchmarks.gpu $(ARGS)

bench: $(READY) ## measure speed against what others do, and write docs/performance.md
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove the virtual environments and every cache (never runs/ or data/)
	rm -rf .venv .venv-oldest .venv-newest .mypy_cache .pytest_cache .ruff_cache dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
