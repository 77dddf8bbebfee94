# make tour    see what hierpool does        make test    see that it works
#
# The environment lives in .venv and is made by tools/environment, with a Python that
# tools/find-python finds; PYTHON=/path/to/python chooses another. ARGS goes to the last command.

PYTHON ?=
ARGS ?=
export PYTHON

BIN := .venv/bin
ALL := dev,samplers,parquet,polars,engines,priors,graph,docs,notebooks,browser

.DEFAULT_GOAL := help
.PHONY: help tour test lint types format notebooks docs test-all clean env env-test env-dev env-notebooks env-docs env-all

help:
	@echo "make tour      the boar analysis, end to end, on bundled data"
	@echo "make test      the quick tests (ARGS='-k shrinkage' picks some)"
	@echo "make lint      ruff: mistakes and layout"
	@echo "make types     mypy"
	@echo "make format    let ruff lay the code out"
	@echo "make notebooks run the notebooks in place (ARGS=02 picks one)"
	@echo "make docs      the pages as a site, in docs/_build/html"
	@echo "make test-all  every test: slow ones, samplers, notebooks, docs, browser, R"
	@echo "make clean     remove .venv, caches and builds"

tour: env
	@$(BIN)/hierpool tour $(ARGS)

test: env-test
	@echo "== quick tests"
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: env-dev
	@echo "== lint"
	@$(BIN)/python -m ruff check $(ARGS)
	@$(BIN)/python -m ruff format --check --quiet || { echo "Run 'make format'."; exit 1; }

types: env-dev
	@echo "== types"
	@$(BIN)/python -m mypy $(ARGS)

format: env-dev
	@$(BIN)/python -m ruff check --fix --exit-zero --quiet
	@$(BIN)/python -m ruff format

notebooks: env-notebooks
	@echo "== notebooks"
	@$(BIN)/python tools/run_notebooks.py $(ARGS)

docs: env-docs
	@echo "== docs"
	@$(BIN)/python -m sphinx -W --keep-going -q -j 2 -c docs -d docs/_build/doctrees . docs/_build/html $(ARGS)
	@echo "docs/_build/html/index.html"

test-all: env-all
	@echo "== all tests"
	@$(BIN)/python -m pytest -m "" $(ARGS)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One of these at a time: each may install into the same .venv.
env:
	@tools/environment
env-test:
	@tools/environment test
env-dev:
	@tools/environment dev
env-notebooks:
	@tools/environment notebooks
env-docs:
	@tools/environment docs
env-all:
	@tools/environment $(ALL)

.NOTPARALLEL:
