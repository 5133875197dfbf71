# Everything a developer or a first user needs. `make` alone lists the targets.
PYTHON ?= python3
WORKERS ?= 2
REAL := $(or $(TGSCALE_SHARED_DATA),../shared/data)
BIN := .venv/bin
INSTALLED := .venv/.installed
RUNS := .venv/.runs
PEERS := build/peers/env/bin/python
# Waiting threads sleep, as those of the command line do.
PASSIVE := OMP_WAIT_POLICY=PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-docs lint format docs bench bench-sampling bench-import bench-training
.PHONY: bench-peers bench-stream-peers bench-snapshot-peers bench-generated real-streams lock clean
.NOTPARALLEL: # measurements would meet each other

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "make %-20s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -c constraints.txt -e '.[dev,docs]'
	touch $@

$(RUNS): pyproject.toml constraints.txt # what it takes to use it, without the tools of developers
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

demo: $(RUNS) ## Make data, train, evaluate, and show what came out and where it lies.
	$(BIN)/tgscale data generate stream --out data/demo --overwrite
	rm -rf runs/demo
	$(BIN)/tgscale train --data data/demo --run runs/demo --train.epochs 3
	@echo
	@echo "Next: $(BIN)/tgscale report runs/demo --out report.html, and data of your own: docs/own-data.md"
	@echo "(source .venv/bin/activate, and it is just tgscale)"

# One thread per test process, so that workers do not fight for cores; Numba may start a second where a test asks for it.
test: export OMP_NUM_THREADS = 1
test: export NUMBA_NUM_THREADS = 2
test: $(INSTALLED) ## Run the tests, without the long ones.
	$(BIN)/pytest -m "not slow and not docs" -n $(WORKERS)

test-slow: $(INSTALLED) ## Run the long tests.
	$(BIN)/pytest -m slow

test-docs: $(INSTALLED) ## Run every block of code of the documentation, the examples and the notebooks.
	$(BIN)/pytest tests/docs -n $(WORKERS)

lint: $(INSTALLED) ## Check style and types.
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy

format: $(INSTALLED) ## Bring the code into style.
	$(BIN)/ruff check --fix src tests benchmarks examples
	$(BIN)/ruff format src tests benchmarks examples

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(INSTALLED) ## Build the documentation into site/; a broken link is an error.
	$(BIN)/mkdocs build --strict

# One after another; each is one command of benchmarks/README.md. Tables go into docs/, between their markers.
bench: bench-import $(if $(wildcard $(REAL)/wikipedia),bench-sampling bench-training bench-peers,bench-generated) ## Measure all that can be measured here.

bench-import: $(INSTALLED) ## Measure import.
	$(BIN)/python benchmarks/ingest.py --events 2000000 --nodes 100000

bench-sampling: $(INSTALLED) | real-streams ## Measure neighbor sampling.
	$(PASSIVE) $(BIN)/python benchmarks/sampling.py --parquet "$(REAL)/wikipedia/events.parquet" \
		--strategy recent --backend numba --write

bench-training: $(INSTALLED) | real-streams ## Measure training and evaluation of the stream engine.
	$(PASSIVE) $(BIN)/python benchmarks/tgn_speed.py --source "$(REAL)" --out build/results --write

bench-peers: bench-stream-peers bench-snapshot-peers ## Both of the next two.

bench-stream-peers: $(INSTALLED) | real-streams ## Measure against PyG and TGM, side by side.
	$(BIN)/python benchmarks/peers.py --out build/peers --write
	$(BIN)/python benchmarks/stream_peers.py --source "$(REAL)" --out build/peers --write

bench-snapshot-peers: $(INSTALLED) | real-streams ## Measure against PyTorch Geometric Temporal, side by side.
	$(BIN)/python benchmarks/peers.py --out build/peers --write
	$(BIN)/python benchmarks/snapshot_peers.py --source "$(REAL)" --out build/peers --quick --peer-python $(PEERS)

bench-generated: $(INSTALLED)
	@echo "No real streams in $(REAL), so sampling alone is measured: set TGSCALE_SHARED_DATA to where they lie."
	$(BIN)/tgscale data generate stream --out data/demo --overwrite
	$(PASSIVE) $(BIN)/python benchmarks/sampling.py --data data/demo

real-streams:
	@test -d "$(REAL)/wikipedia" || { echo "No real streams in $(REAL): set TGSCALE_SHARED_DATA to where they lie."; exit 1; }

# Not Triton: torch for CUDA says itself which it needs.
lock: ## Write constraints.txt anew, with the newest versions that PYTHON takes: give it the oldest 3.11 there is.
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install '.[dev,docs,formats,peers,mlflow,wandb]'
	head -1 constraints.txt > build/constraints.txt
	build/lock/bin/pip freeze --exclude tgscale --exclude triton | sed 's/+.*//' >> build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## Remove what was built, cached and generated, but not the environment, data or runs.
	rm -rf build dist site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
