# Each target sets up what it needs by itself, in .venv, on a machine that has Python >= 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint bench setup clean

demo: $(VENV)/.run-ready          ## the main job on a synthetic embryo; results in howdah-demo/
	$(BIN)/howdah demo --out howdah-demo

test: lint                        ## linters, types, import contracts, all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=python:. $(BIN)/lint-imports

bench: $(VENV)/.dev-ready         ## repeatable measurements; tables in benchmarks/results/
	$(BIN)/python benchmarks/run.py

setup: $(VENV)/.dev-ready         ## everything for working on Howdah

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Howdah needs Python 3.11 or newer; '$(PYTHON)' is older. Name another one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.run-ready: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[learn]'
	@touch $@

$(VENV)/.dev-ready: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[learn,dev]'
	@touch $@ $(VENV)/.run-ready

clean:
	rm -rf $(VENV) howdah-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
