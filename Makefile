# Everything runs from a clean clone with Python >= 3.11 and make: the first target makes .venv with all that is needed.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PYTHONUNBUFFERED = 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup demo test fast lint format bench docs clean

help:  ## show this page
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed (make PYTHON=python3.12 …)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[atari,dev]'
	@touch $@

setup: $(READY)  ## make .venv with the package and everything it needs

demo: $(READY)  ## render games, train tokenizer and generator, sample videos into outputs/demo
	$(BIN)/videoar demo --out outputs/demo

test: $(READY)  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

fast: $(READY)  ## the tests without the slow ones: whole runs, sweeps, notebooks, several processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow"

lint: $(READY)  ## ruff check, ruff format, mypy on src
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## benchmarks of this machine (they assert nothing about time)
	$(BIN)/python -m pytest benchmarks/bench_*.py --benchmark-only

docs: $(READY)  ## build the documentation into outputs/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:  ## remove .venv and everything the commands wrote
	rm -rf $(VENV) outputs lightning_logs
