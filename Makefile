# `make` shows the targets. The environment is made from requirements.lock the first time that anything needs it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=

export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help env reproduce smoke plan test test-fast test-slurm test-tracking check format mlflow lock bench clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env: $(VENV)/.complete  ## make the environment from the lock

$(VENV)/.complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11 env"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

reproduce: env  ## pretrain, evaluate and regenerate the tables: make reproduce ARGS="--config studies=all"
	snakemake $(ARGS)

smoke: env  ## the whole pipeline in minutes, with meaningless accuracies
	snakemake --config scale=smoke $(ARGS)

plan: env  ## what `make reproduce` would run, and its cost; runs nothing
	python -m workflow cost $(ARGS)

test: env  ## all tests
	pytest -n auto --dist worksteal $(ARGS)

test-fast: env  ## the tests that take no end-to-end run
	pytest -n auto --dist worksteal -m "not slow" $(ARGS)

test-slurm: env  ## the executor on a real Slurm: as root on Debian, installs and starts one for the tests
	DINO_SLURM_TESTS=1 pytest tests/slurm $(ARGS)

test-tracking: env  ## delivery to a real MLflow server over PostgreSQL, installed where root runs this on Debian
	DINO_POSTGRESQL_TESTS=1 pytest tests/dino/tracking $(ARGS)

check: env  ## formatting, lint, types, workflow lint
	ruff check .
	ruff format --check .
	mypy
	mypy workflow/plugins/snakemake_executor_plugin_submitit
	snakefmt --check Snakefile workflow
	snakemake --lint

format: env  ## put every file into the house's format
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

mlflow: env  ## browse the runs at http://127.0.0.1:5000
	MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}" --host 127.0.0.1 --port 5000 --workers 1

lock: env  ## resolve requirements.lock anew from pyproject.toml and requirements.pins
	pip-compile --quiet --allow-unsafe --extra dev --strip-extras --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --constraint requirements.pins --output-file requirements.lock pyproject.toml

bench: env  ## benchmarks; against the authors' code: make bench ARGS="--reference DIR"
	python benchmarks/record.py $(ARGS)

clean:  ## remove what runs have made (results/, the tracking store); asks first
	@printf 'Remove results/, .snakemake/ and mlflow.db? [y/N] '; read answer; [ "$$answer" = y ]
	find results -mindepth 1 ! -name README.md -delete
	rm -rf .snakemake mlflow.db
