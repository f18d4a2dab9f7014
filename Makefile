# What a developer runs. Everything is installed into .venv and .servers; `make clean` removes it all.
# PYTHON=/path/to/python3.12 chooses the interpreter, PYTEST_ARGS="-k name" is passed on to pytest.

BIN := .venv/bin
SETUP := scripts/setup.sh scripts/constraints.txt pyproject.toml
PYTEST_ARGS ?=
# Two processes: many tests wait for processes of their own. -n 0 in PYTEST_ARGS turns it off, for a debugger.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test test-servers bench lint clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || \
		sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)

demo: .venv/.demo ## Train on the digits data from an embedded S3 server, with a restart in the middle
	$(BIN)/python examples/digits/demo.py

test: lint ## Lint, then run all tests that need no real server
	$(PYTEST) $(PYTEST_ARGS)

test-servers: .venv/.test ## Install radosgw and Azurite where missing, and run the tests that need them
	scripts/servers.sh
	$(PYTEST) --servers -m servers $(PYTEST_ARGS)

bench: .venv/.test ## Run one benchmark: make bench NAME=fork_matrix ARGS="--objects 64"; the names are in tests/benchmarks
	@test -n "$(NAME)" || { ls tests/benchmarks; echo 'make bench NAME=one-of-these [ARGS="..."]'; exit 2; }
	$(BIN)/python -m tests.benchmarks.$(NAME) $(ARGS)

lint: .venv/.test ## ruff check, ruff format --check, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## Remove environments, servers, caches and the demo's data
	rm -rf .venv .servers .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: installed when the project file or the set-up last changed. .test holds all that .demo needs.
.venv/.demo: $(SETUP)
	scripts/setup.sh demo
	@touch $@

.venv/.test: $(SETUP)
	scripts/setup.sh test
	@touch $@ .venv/.demo
