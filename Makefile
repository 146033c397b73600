# Lungwatch. `make run` to try it, `make test` before a commit. Everything is installed into .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Only packages in the lock files, verified by hash; then this code, in place.
INSTALL = $(PIP) install --no-deps --require-hashes --requirement
OURSELVES = $(PIP) install --no-deps --no-build-isolation --editable .
# The tests of a file run in one process, because they share fixtures. Long files come first: tests/support/tiers.py.
PYTEST = $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
# Whose films the shipped model is tested on, for its manifest and card.
POPULATION = 1.0 to under 6.0 years; Guangzhou Women and Children's Medical Center; Kermany et al., doi 10.17632/rscbjbr9sj
# Of the films in the folder ADULTS, which `make model` takes as an option.
ADULTS_SOURCE = NIH ChestX-ray14 (Wang et al. 2017), provided by the NIH Clinical Center, use unrestricted
COMPILE = uv pip compile pyproject.toml --group build --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --quiet

.PHONY: run setup training model dev test test-slow test-all soak check format bench profile lock clean install uninstall wheels

run: setup  ## watch ./inbox and screen what is dropped there
	@mkdir -p inbox
	@exec $(BIN)/lungwatch run

setup: .venv/worker.stamp  ## install what the worker needs, without TensorFlow
training: .venv/training.stamp  ## also install what training needs
dev: .venv/dev.stamp  ## also install what the tests need

test: check  ## checks before a commit: lint, types and all tests that are not slow
	$(PYTEST) -m "not slow"

test-slow: dev  ## the slow tests
	$(PYTEST) -m slow

test-all: check  ## all tests
	$(PYTEST)

install:  ## as root: install or upgrade Lungwatch as a service; lists first what it will do
	PYTHON=$(PYTHON) WHEELS=$(WHEELS) BACKUP=$(BACKUP) systemd/install.sh install

uninstall:  ## as root: remove what `install` made, except films, results, models and settings
	systemd/install.sh uninstall

wheels: .venv/bin/python  ## download packages into var/wheels, for `make install WHEELS=var/wheels` without a registry
	$(PIP) download --require-hashes --no-deps --dest var/wheels --requirement requirements.lock
	$(PIP) download --require-hashes --no-deps --dest var/wheels --requirement training/requirements.lock

model: training  ## train the shipped model again, into var/model/models: make model DATA=chest_xray, the public download
	@test -n "$(DATA)" || { echo "name the public download: make model DATA=chest_xray" >&2; exit 2; }
	$(BIN)/python -m training.download "$(DATA)" var/model/chest_xray
	LUNGWATCH_POPULATION="$(POPULATION)" $(BIN)/python -m training.retrain \
		--data var/model/chest_xray --models var/model/models \
		--cache var/model/cache --no-database --from scratch --salt lungwatch --epochs 40 --seed 20 \
		$(if $(SIZES),--native-sizes "$(SIZES)") \
		$(if $(ADULTS),--other-patients "$(ADULTS)" --other-patients-source "$(ADULTS_SOURCE)")

soak: dev  ## the fault suite at full length, with its table: hours; best as root, on a quiet machine
	TEST_DEADLINE_SECONDS=1800 $(BIN)/pytest tests/faults --soak

check: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: dev  ## format the code for `check`
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: dev  ## films per second compared with a bare loop and the usual script, and time per stage
	$(BIN)/python tests/benchmarks/bench_worker.py

profile: dev  ## flame graphs of the worker and a screener under load, in var/bench
	$(BIN)/python tests/benchmarks/profile_worker.py

lock:  ## rewrite the lock files; needs uv on the PATH
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --extra training --constraint requirements.lock --output-file training/requirements.lock
	$(COMPILE) --extra training --group dev --constraint training/requirements.lock \
		--output-file tests/requirements.lock

clean:  ## remove what can be rebuilt; films, results and models stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Lungwatch needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/worker.stamp: requirements.lock pyproject.toml | .venv/bin/python
	$(INSTALL) requirements.lock
	$(OURSELVES)
	@touch $@

.venv/training.stamp: training/requirements.lock .venv/worker.stamp
	$(INSTALL) training/requirements.lock
	@touch $@

.venv/dev.stamp: tests/requirements.lock .venv/training.stamp
	$(INSTALL) tests/requirements.lock
	@touch $@
