# `make demo` and `make test` are all that a fresh clone needs: Python 3.11+, pip and make. See README.md.
#
# TORCH_INDEX   where torch and torchvision come from, such as https://download.pytorch.org/whl/cpu; default: PyPI
# PYTHON        the Python that the virtual environment is made of

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
STAMP := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help setup demo platform-demo test test-all test-faults test-cluster test-gpu lint bench lock

help:
	@echo "make demo      train on handwritten digits and look at the translations (some minutes)"
	@echo "make platform-demo  the demo on a platform of services: S3, Postgres, MLflow, Ray, search dashboard"
	@echo "make test      the tests that must pass"
	@echo "make test-all  the slow ones as well"
	@echo "make test-faults  kill object store, MLflow and Postgres under trainings; OUTAGE_S=60: for so many seconds"
	@echo "make test-cluster  kill workers, hosts, wires, services and drivers under trainings on three hosts; needs root"
	@echo "make test-gpu  what needs CUDA"
	@echo "make lint      ruff and mypy"
	@echo "make bench     measure against the reference implementations; writes tests/benchmarks/RESULTS.md"
	@echo "make setup     the virtual environment in .venv that all of these use"
	@echo "make lock      resolve requirements.lock anew"

setup: $(STAMP)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "i2idist needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $@ install pip; }

# The lock fixes the versions of whatever is installed; torch comes first, alone, where another index is asked for.
$(STAMP): pyproject.toml requirements.lock | $(BIN)/python
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install -c requirements.lock --no-deps --index-url $(TORCH_INDEX) torch torchvision)
	$(BIN)/python -m pip install -c requirements.lock -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/i2idist demo

# One thread each: tests start several processes at once, and threads beyond the free cores cost more than they give.
test test-all: export OMP_NUM_THREADS = 1

# Two files at a time, in the order of tests/conftest.py: half of the time is waiting for servers to start.
test: $(STAMP)
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu" --ignore=tests/benchmarks

test-all: $(STAMP)
	$(PYTEST) -m "not gpu and not cluster" --ignore=tests/benchmarks

OUTAGE_S ?= 5
test-faults: $(STAMP)
	I2IDIST_OUTAGE_S=$(OUTAGE_S) $(PYTEST) -m fault tests/faults

test-cluster: export OMP_NUM_THREADS = 1
test-cluster: $(STAMP)
	$(PYTEST) -m cluster tests/cluster

test-gpu: $(STAMP)
	$(PYTEST) -m gpu -v

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)
	$(PYTEST) tests/benchmarks -s --timeout=3600

platform-demo: $(STAMP)
	$(BIN)/python -m services demo

lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install '.[dev]'
	$(VENV)-lock/bin/python -m pip freeze --exclude i2idist > requirements.lock
	rm -rf $(VENV)-lock
