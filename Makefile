# make demo    install into .venv and explain a sentence with the embedded model
# make test    install what the tests need and run all of them
# make help    the rest
#
# Benchmarks on real texts: make reliability DATA=folder, make sensitivity DATA=folder
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SENTENCE := although this dog is not cute, it is very smart.

.PHONY: demo test test-fast lint types check format reliability sensitivity help clean

demo: .venv/core ## explain a sentence, in colour and as a page
	$(BIN)/attnflow explain "$(SENTENCE)" --html demo.html --overwrite

test: .venv/test ## every test
	$(BIN)/python -m pytest --numprocesses 2

test-fast: .venv/test ## without the slow tests (browser, long texts)
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow"

lint: .venv/dev ## style, as CI checks it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev ## strict type check
	$(BIN)/mypy

check: lint types test ## all that CI runs

format: .venv/dev ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reliability: .venv/test ## solve twelve thousand networks, real ones from DATA=folder among them
	$(BIN)/python benchmarks/reliability.py $(if $(DATA),--data "$(DATA)")

sensitivity: .venv/dev ## how much the barrier's weight matters, on texts from DATA=folder
	$(BIN)/python benchmarks/sensitivity.py --data "$(DATA)"

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

clean: ## remove the environment
	rm -rf .venv

.venv/core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("attnflow needs Python 3.11 or newer; $(PYTHON) is %d.%d: make PYTHON=..." % v[:2])'
	@echo "installing into .venv (a minute or two) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable .
	@touch $@

.venv/test: .venv/core
	@$(PIP) --editable ".[test]"
	@touch $@

.venv/dev: .venv/test
	@$(PIP) --editable ".[dev]"
	@touch $@
