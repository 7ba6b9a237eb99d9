# The only entrance: `make help` lists the commands.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export PYTHONPATH := $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help setup serve test lint format benchmark soak audit

help: ## List the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

# Made anew whenever a pin changes.
$(VENV)/.ready: requirements_server.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements_server.txt -c constraints.txt
	$(BIN)/python -m pip install --quiet --editable '.[dev]' -c constraints.txt
	@touch $@

setup: $(VENV)/.ready ## Install everything into .venv

serve: setup ## Start on http://localhost:9487
	$(BIN)/python app.py

# Each part by itself: browsers, servers and networks do not share an interpreter, and what one part leaves
# in memory cannot disturb the next. Long parts that keep one core busy run two files at a time.
test: setup ## Run every test
	@status=0; for part in '-n 2 tests/imaging tests/measurement' 'tests/segmentation' 'tests/training' \
	  '-n 2 tests/service tests/test_*.py' 'tests/web/test_browser_*.py' \
	  '-n 2 tests/web --ignore-glob=*/test_browser_*.py'; do \
	  echo "== $$part"; $(BIN)/python -m pytest -q --dist loadfile $$part || status=1; done; exit $$status

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Rewrite to the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: setup ## A minute of killed workers, and a minute of ten times the load
	$(BIN)/python tests/soak.py kills
	$(BIN)/python tests/soak.py overload

audit: ## Ask PyPI for known holes in what the server runs (needs the network)
	$(PYTHON) -m venv .audit && .audit/bin/pip install --quiet pip-audit==2.10.1
	.audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements_server.txt -r constraints.txt

benchmark: setup ## Accuracy against known truth (SHARED_DATA=folder adds real micrographs)
	$(BIN)/sam-droplet benchmark accuracy $(if $(SHARED_DATA),--data $(SHARED_DATA))
