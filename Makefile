# beamslot: `make demo` and `make test` are all that a fresh machine needs; both set up .venv themselves.
SHELL := /bin/bash
PYTHON ?= python3
GRAPH ?= flowgraphs/dual.yml
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help demo test check bench soak train paper-hbf paper-vae screenshots peers clean

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -m venv .venv

# One stamp an extra: the base install is quick, heavy extras come only where they are needed.
.venv/stamp-%: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[$*]'
	@touch $@

.venv/stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

# A graph with a umi_source needs Sionna, one with a vae_... something that runs nets.
needs = $(if $(shell grep -s 'id: $(1)' $(GRAPH)),.venv/stamp-$(2))
NEEDS := $(or $(strip $(call needs,umi_source,umi) $(call needs,vae_,onnx)),.venv/stamp)

demo: $(NEEDS)  ## run the main job, or GRAPH=flowgraphs/demo.yml, umi.yml, ...
	$(BIN)/beamslot run $(GRAPH) $(ARGS)

test: .venv/stamp-test  ## set up everything that tests need, and run them
	$(BIN)/python -m pytest $(ARGS)

check: .venv/stamp-test  ## format, lint, types, layers, tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(ARGS)

bench: .venv/stamp-bench  ## speed against named peers, each in one interleaved run; WHAT=estimators for one, doa or upa-net for the nets
	set -e; for what in $(or $(WHAT),transport estimators); do $(BIN)/beamslot bench $$what $(ARGS); done

soak: .venv/stamp-test  ## the long tests (BEAMSLOT_SOAK_MINUTES=3 for short ones)
	$(BIN)/python -m pytest -m soak --timeout 3600 $(ARGS)

train: .venv/stamp-train  ## train a net: CONFIG=quick.yml, vae_ula.yml, vae_upa.yml, paper.yml or a file of yours
	$(BIN)/python tools/train_vae $(or $(CONFIG),quick.yml) $(ARGS)

paper-hbf: .venv/stamp-plot  ## figures and table of the paper on group-wise beams (QUICK=1 for minutes; ARGS="--jobs 8")
	$(BIN)/python tools/paper_hbf $(if $(QUICK),--quick) $(ARGS)

paper-vae: .venv/stamp-plot .venv/stamp-train  ## figures of the paper on the dual-path VAE (QUICK=1 for minutes; ARGS="--jobs 8")
	$(BIN)/python tools/paper_vae $(if $(QUICK),--quick) $(ARGS)

screenshots: .venv/stamp-test  ## the pictures of the README, from a running graph (needs Chromium)
	$(BIN)/python tools/screenshots

peers:  ## apt packages that some tests can use (best effort, needs root)
	apt-get update -q && timeout 600 apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core gnuradio

clean:  ## remove what was made
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
