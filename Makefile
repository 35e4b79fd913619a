# `make demo` and `make test` are all that is needed; each sets up .venv first. `make help` lists the rest.
.DEFAULT_GOAL := install
.PHONY: install demo test prove bench lint format lock clean help
MAKEFLAGS += --no-print-directory

bin := .venv/bin
stamp := .venv/.installed
workers := -n auto --dist worksteal  # on one Kafka, each with a Redis of its own

install: $(stamp)  ## set up .venv with the stitchline command (the default)
	@:

$(stamp): pyproject.toml requirements.lock ci/venv
	@ci/venv
	@touch $@

demo: install  ## a shop's events through Kafka into a live page; Ctrl-C ends it
	@exec $(bin)/stitchline demo

test: install  ## the whole suite, on a real Kafka and Redis; ARGS="-k sessions" picks some
	@ci/browser
	@exec $(bin)/pytest $(workers) $(ARGS)

prove: install  ## the long forms of the tests, kept in docs/proofs; takes some hours; ARGS="--seed 7 tests/faults"
	@exec $(bin)/python ci/prove.py $(ARGS)

bench: install  ## throughput, latency, late events, many devices into bench/RESULTS.md; ARGS="--parts late"
	@exec $(bin)/python -m bench $(ARGS)

lint: install  ## ruff, mypy, the import rules, and who owns which mart
	@$(bin)/ruff check --quiet .
	@$(bin)/ruff format --quiet --check . || { echo "Some files are not formatted: run make format." >&2; exit 1; }
	@$(bin)/mypy --no-error-summary
	@said=$$($(bin)/lint-imports --no-logo 2>&1) || { echo "$$said" >&2; exit 1; }
	@$(bin)/python ci/code_owners.py --check

format: install  ## put the code into ruff's form
	@$(bin)/ruff check --quiet --fix . || true
	@$(bin)/ruff format --quiet .

lock: install  ## work out requirements.lock again from pyproject.toml
	@$(bin)/pip-compile --quiet --upgrade --all-extras --allow-unsafe --generate-hashes --no-strip-extras \
		--no-header --no-emit-index-url --no-emit-find-links --output-file requirements.lock pyproject.toml

clean:  ## remove .venv and every cache; data under .stitchline stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 18
