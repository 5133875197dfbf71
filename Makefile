# Everything a developer or a first user needs. `make` alone lists the targets.
PYTHON ?= python3
WORKERS ?= 2
REAL := $(or $(TGSCALE_SHARED_DATA),../shared/data)
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format docs bench lock clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "make %-10s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -c constraints.txt -e '.[dev,docs]'
	touch $@

demo: $(INSTALLED) ## Make data, train, evaluate, and show what came out and where it lies.
	$(BIN)/tgscale data generate stream --out data/demo --overwrite
	rm -rf runs/demo
	$(BIN)/tgscale train --data data/demo --run runs/demo --train.epochs 3

# One thread per test process, so that workers do not fight for cores; Numba may start a second where a test asks for it.
test: export OMP_NUM_THREADS = 1
test: export NUMBA_NUM_THREADS = 2
test: $(INSTALLED) ## Run the tests, without the long ones.
	$(BIN)/pytest -m "not slow" -n $(WORKERS)

test-slow: $(INSTALLED) ## Run the long tests.
	$(BIN)/pytest -m slow

lint: $(INSTALLED) ## Check style and types.
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

format: $(INSTALLED) ## Bring the code into style.
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(INSTALLED) ## Build the documentation into site/; a broken link is an error.
	$(BIN)/mkdocs build --strict

bench: $(INSTALLED) ## Measure sampling, import and, where there are real streams, training.
	$(BIN)/tgscale data generate stream --out data/demo --overwrite
	$(BIN)/python benchmarks/sampling.py --data data/demo
	$(BIN)/python benchmarks/ingest.py --events 2000000 --nodes 100000
	@if [ -d "$(REAL)/wikipedia" ]; then $(BIN)/python benchmarks/tgn_speed.py --source "$(REAL)" --out build/results; \
	else echo "no real streams in $(REAL): set TGSCALE_SHARED_DATA to measure training"; fi

lock: ## Write constraints.txt anew, with the newest versions.
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install '.[dev,docs,peers]'
	head -1 constraints.txt > build/constraints.txt
	build/lock/bin/pip freeze --exclude tgscale | sed 's/+.*//' >> build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## Remove what was built, cached and generated, but not the environment, data or runs.
	rm -rf build dist site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
