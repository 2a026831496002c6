# Commands of this repository. `make` alone lists them.

PYTHON ?= python3
# What pytest makes of each module is kept, also where other programs are told to keep nothing.
PYTEST = PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest
# More than CI has processors, since tests wait half their time. Files go out as they are listed: tests/acceptance,
# which takes longest, first.
WORKERS ?= 3
BY_FILE = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
ELSEWHERE = --ignore=tests/deploy --ignore=tests/engines --ignore=tests/packaging
ON_POSTGRESQL = $(if $(ALL),tests/integration tests/acceptance,$(shell sed '/^\#/d' tests/engines/suite.txt))

.PHONY: help setup prefix run run-cluster demo screenshots check test-fast test test-engines test-packaging test-long bench format docs dist lock clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make .venv and everything else that the other commands need
	@$(PYTHON) -m dev.setup

prefix: setup  ## a small Gentoo Prefix in .run/prefix, to try the binhost without Gentoo
	@.venv/bin/python -m dev.prefix

run: setup  ## the main job here: a collector, this machine registered, its emerge.log followed
	@.venv/bin/python -m dev.run

run-cluster:  ## the same on PostgreSQL, RabbitMQ and S3: two collectors behind HAProxy, two builders
	@$(PYTHON) -m dev.setup engines
	@.venv/bin/python -m dev.cluster

demo: setup  ## a collector whose pages show 1,000 simulated machines
	@.venv/bin/python -m dev.demo

screenshots: setup  ## pictures of the pages, of a simulated fleet, into docs/pictures
	@.venv/bin/python -m dev.screenshots

check: setup  ## format, ruff and mypy --strict
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy --strict

test-fast: setup  ## unit and property tests, under a minute
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not long and not engines" tests/unit tests/property

test: setup check  ## everything that needs no other engine or init system
	$(PYTEST) $(BY_FILE) $(ELSEWHERE) -m "not long and not engines"

test-engines:  ## the same on PostgreSQL, RabbitMQ and S3, and what is in deploy/; ALL=1: every test on PostgreSQL
	@$(PYTHON) -m dev.setup engines
	$(PYTEST) $(BY_FILE) -m "engines and not long"
	GENTWOO_TEST_STORE=postgresql $(PYTEST) $(BY_FILE) -m "not long and not engines" $(ON_POSTGRESQL)

test-packaging: setup  ## real emerge in a root, OpenRC, systemd; says first what this machine can do
	@.venv/bin/python -m dev.packaging

test-long:  ## thousands of faults, also in a cluster under load; hours
	@$(PYTHON) -m dev.setup engines
	$(PYTEST) -n $(WORKERS) --dist worksteal -m long --timeout 0

bench: setup  ## measure speed and memory, each target beside its peer or limit
	.venv/bin/python -m benchmarks

format: setup  ## rewrite the sources as ruff wants them
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

docs: setup  ## write manuals and completions anew from what the commands say
	@.venv/bin/python -m dev.documents

dist: setup  ## source archive and wheel of the last commit, the same bytes everywhere
	@.venv/bin/python -m dev.dist

lock:  ## resolve the dependencies anew into the two lock files
	$(PYTHON) -m dev.lock

clean:  ## remove everything that these commands made
	rm -rf $$($(PYTHON) -c 'from dev.places import user_venv; print(user_venv())')
	rm -rf --one-file-system .packaging .pkgcheck
	rm -rf .venv .venv-* .portage .node .run build dist *.egg-info .*_cache .hypothesis .setup.lock
