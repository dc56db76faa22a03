# Each target sets up what it needs by itself, in .venv, on a machine that has Python >= 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

JAVA   := $(VENV)/java

.PHONY: demo test lint java bench bench-quick setup clean

demo: $(VENV)/.run-ready          ## the main job on a synthetic embryo; results in howdah-demo/
	$(BIN)/howdah demo --out howdah-demo

test: lint java                   ## linters, types, import contracts, all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=python:. $(BIN)/lint-imports

BENCH  := PYTHONPATH=python:. $(BIN)/python

bench: $(VENV)/.dev-ready         ## every format and hot path beside peers and limits, cells a second, and docs/benchmarks.md; some twenty minutes
	$(BENCH) -m benchmarks.suite
	$(BENCH) benchmarks/end_to_end.py
	$(BENCH) -m benchmarks.suite.page

bench-quick: $(VENV)/.dev-ready   ## the same at two sizes, without cells a second; nothing of the docs is changed
	$(BENCH) -m benchmarks.suite --quick --out benchmarks/results/quick

# Real ImageJ, SciJava, Jython and Appose for the tests; where there is no JDK or no Maven, these tests skip and say so.
java:
	@if command -v mvn >/dev/null && command -v javac >/dev/null; then $(MAKE) --no-print-directory $(JAVA)/.ready; \
	 else echo "No JDK or no Maven here: tests that run Java are skipped (install a JDK >= 11 and maven)."; fi

$(JAVA)/.ready: tests/java/pom.xml $(wildcard tests/java/*.java) | $(VENV)/bin/python
	rm -rf $(JAVA) && mkdir -p $(JAVA)/classes
	mvn -q -B -f tests/java/pom.xml org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
	  -DoutputDirectory=$(abspath $(JAVA))/jars
	javac -encoding UTF-8 -cp '$(JAVA)/jars/*' -d $(JAVA)/classes tests/java/*.java
	@touch $@

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
