# The only entrance: `make help` lists the commands.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export PYTHONPATH := $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help setup serve test lint format benchmark

help: ## List the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

# Made anew whenever a pin changes.
$(VENV)/.ready: requirements_server.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements_server.txt
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(VENV)/.ready ## Install everything into .venv

serve: setup ## Start on http://localhost:9487
	$(BIN)/python app.py

# One process per part: browsers, servers and networks do not share an interpreter, and what one part
# leaves in memory cannot disturb the next.
test: setup ## Run every test
	@status=0; for part in 'tests/imaging tests/measurement' 'tests/segmentation tests/training' \
	  'tests/service tests/test_*.py' 'tests/web/test_browser_*.py' \
	  'tests/web --ignore-glob=*/test_browser_*.py'; do \
	  echo "== $$part"; $(BIN)/python -m pytest -q $$part || status=1; done; exit $$status

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Rewrite to the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: setup ## Accuracy against known truth (SHARED_DATA=folder adds real micrographs)
	$(BIN)/sam-droplet benchmark accuracy $(if $(SHARED_DATA),--data $(SHARED_DATA))
