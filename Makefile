# Two commands matter to a newcomer: `make paper` and `make test`. `make` alone explains the rest.
# Every step of the set-up leaves a stamp under .venv/, so that a second call costs nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
CONSTRAINTS := requirements/constraints.txt
# uv writes no .pyc files unless told to, and without them every start recompiles everything
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c $(CONSTRAINTS)
# the peers of the benchmark have pins that clash with ours, so they live apart
PEERS := .venv-peers
LOCKED_EXTRAS := trees research cluster e2e docs bench dev
PYTEST := $(BIN)/python -m pytest
ORDINARY := "not soak and not bench"

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header \
  --no-annotate --no-emit-index-url

# where this is set, every one of the many processes of a test run would compile our sources again
export PYTHONDONTWRITEBYTECODE :=
# more workers than the two cores of a small machine, since many tests wait for other processes;
# libraries that start a thread a core would only get in each other's way
test soak warm: export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help setup paper setup-dev setup-bench check warm format test soak bench lock sbom docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMPS)/core $(STAMPS)/torch ## Create the environment with everything the daemon needs, CPU torch included

paper: setup ## Trade on paper against the rehearsal exchange; the first run trains a model
	$(BIN)/equipoise rehearse

setup-dev: setup $(STAMPS)/dev .tools/bin/mosquitto .tools/bin/chromium ## Add what the checks and tests need, a real MQTT broker and browser included

setup-bench: setup-dev $(STAMPS)/bench $(STAMPS)/peers ## Add what `make bench` needs, the peers in an environment of their own

check: $(STAMPS)/dev $(STAMPS)/torch ## Check format, lint, types and import contracts (seconds)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMPS)/dev ## Format the code and mend what the linter can mend by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup-dev ## Run the checks and all tests but the long ones: what continuous integration runs
	@$(MAKE) --no-print-directory -j 2 check warm
	$(PYTEST) -n 3 --dist worksteal -m $(ORDINARY)

warm: $(STAMPS)/dev $(STAMPS)/torch ## Compile the tests once in a new checkout, so that not every worker has to
	@test -n "$$(find tests -name '*-pytest-*.pyc' -print -quit)" \
	  || $(PYTEST) -qq --collect-only -n 0 -m $(ORDINARY) > /dev/null || true

soak: setup-dev ## Run the tests that take many minutes
	$(PYTEST) -n 3 --dist load --maxschedchunk 1 -m soak --timeout 3600

bench: setup-bench ## Measure speed and memory, peers in the same run, and print the table
	PEERS_PYTHON=$(PEERS)/bin/python $(BIN)/python -m benchmarks

lock: $(STAMPS)/venv ## Renew the pinned versions in requirements/ for all supported Pythons and systems
	$(LOCK) $(LOCKED_EXTRAS:%=--extra %) pyproject.toml -o $(CONSTRAINTS) > $(STAMPS)/lock.log
	$(LOCK) requirements/peers.in -o requirements/peers.txt > $(STAMPS)/lock.log

sbom: $(STAMPS)/core ## Write every pinned library into sbom.json (CycloneDX)
	$(BIN)/python -m tools.sbom > sbom.json

docs: $(STAMPS)/docs ## Build the pages as a site into site/, without any request to outside
	$(BIN)/python -m tools.site
	$(BIN)/mkdocs build --strict --quiet

clean: ## Remove the environment, fetched servers and caches; state, data and models stay
	rm -rf $(VENV) $(PEERS) .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit("Equipoise needs Python 3.11 to 3.13; say PYTHON=...; $(PYTHON) is "+sys.version.split()[0]) if not (3,11) <= sys.version_info[:2] <= (3,13) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/core: pyproject.toml $(CONSTRAINTS) $(STAMPS)/venv
	$(INSTALL) -e .
	@touch $@

$(STAMPS)/torch: tools/get_torch.py $(STAMPS)/core
	$(BIN)/python tools/get_torch.py
	@touch $@

$(STAMPS)/dev: $(STAMPS)/core
	$(INSTALL) -e '.[dev,trees,research,e2e]'
	@touch $@

$(STAMPS)/docs: $(STAMPS)/core
	$(INSTALL) -e '.[docs]'
	@touch $@

.tools/bin/mosquitto .tools/bin/chromium: .tools/bin/%: tools/fetch_servers.py | $(STAMPS)/venv
	$(BIN)/python tools/fetch_servers.py $*
	@touch $@

$(STAMPS)/bench: $(STAMPS)/dev
	$(INSTALL) -e '.[dev,trees,research,e2e,bench]'
	@touch $@

$(STAMPS)/peers: requirements/peers.txt | $(STAMPS)/venv
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(PEERS)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(PEERS)/bin/python -r requirements/peers.txt
	@touch $@
