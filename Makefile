# `make quickstart` and `make test` need Python 3.11 or 3.12 and nothing else.
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
  && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
RUN_DIR ?= runs/quickstart
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: quickstart test thorough lint types evidence benchmark smoke clean

$(BIN)/activate:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp for each set of packages, made anew when setup.py changes.
$(VENV)/installed: setup.py | $(BIN)/activate
	$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-test: setup.py | $(VENV)/installed
	$(INSTALL) --editable '.[test]'
	@touch $@

quickstart: $(VENV)/installed
	$(BIN)/python -m orbit_snn.train --experiment=digits --config_file=configs/digits/bptt.yaml \
	  --mode=train_and_eval --model_dir=$(RUN_DIR)
	@echo "checkpoints and results: $(RUN_DIR)"
	@echo "TensorBoard:             $(BIN)/tensorboard --logdir=$(RUN_DIR)"

test: $(VENV)/installed-test lint types
	$(BIN)/python -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder

# Every row of the long tables, of which `make test` runs what has every setting in it; ten kills of
# a run of every rule instead of one.
thorough: $(VENV)/installed-test
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --thorough tests/conformance tests/system

lint: $(VENV)/installed-test
	$(BIN)/ruff check .

types: $(VENV)/installed-test
	$(BIN)/mypy

# The wheel, in a fresh environment, from another folder.
smoke: $(VENV)/installed
	sh tools/smoke.sh

evidence: $(VENV)/installed
	$(BIN)/python -m orbit_snn.tools.evidence

benchmark: $(VENV)/installed
	$(BIN)/python -m orbit_snn.tools.benchmark

clean:
	rm -rf build dist *.egg-info $(VENV)
