# `make demo` runs the whole walk, `make test` proves it. Both set up .venv when it is not there.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup demo ablations test audit chaos browser lint types format models clean
.DEFAULT_GOAL := help

help:
	@echo "make setup      install the pinned packages into $(VENV) (Python 3.11 or newer; PYTHON=... chooses one)"
	@echo "make demo       generate videos, curate, train and evaluate: eleven to fifteen minutes on two cores"
	@echo "make ablations  what each design adds and what poor data cost, on generated data: about four hours"
	@echo "make test       linter, formatter, type checker and tests"
	@echo "make audit      known vulnerabilities of the pinned packages, as a report"
	@echo "make browser    Chromium for the tests that open a page, when there is none"
	@echo "make chaos      kill curation and training fifty times each, and break a cluster in every way (an hour)"
	@echo "make format     lay the code out"
	@echo "make models     train the tiny models that are missing in pipelines/embedded/weights"
	@echo "make clean      remove caches; runs and $(VENV) stay"

setup: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	@set -e; \
	for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 python; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: no Python 3.11 or newer here; install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	if [ ! -x $(BIN)/python ] && ! "$$python" -m venv $(VENV); then \
	  rm -rf $(VENV); \
	  echo "error: $$python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi; \
	echo "installing the packages of requirements.lock into $(VENV) (a few minutes the first time)"; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	touch $(STAMP)

demo: setup
	$(BIN)/dreamer demo

# Each is resumable. The held-out clips are the same clean ones in all worlds.
WORLD := --held-out-clips 256 --held-out-two-clips 64 --held-out-pan-clips 0 --no-flow
ALL := --clips 2048 $(WORLD)
TENTH := --clips 205 $(WORLD)
ROUGH := --crf 45
MARKED := --watermark STOCK
HARD := --two-sprites-share 0.4 --crossing --pan-share 0 --detail 1.5 --light-spread 0.3

ablations: setup
	$(BIN)/dreamer embedded sprites runs/ablation/sprites $(ALL)
	$(BIN)/dreamer ablate ablation --parallel 2
	$(BIN)/dreamer embedded sprites runs/limited_data/clean $(ALL)
	$(BIN)/dreamer embedded sprites runs/limited_data/tenth $(TENTH)
	$(BIN)/dreamer embedded sprites runs/limited_data/compressed $(ALL) $(ROUGH)
	$(BIN)/dreamer embedded sprites runs/limited_data/marked $(ALL) $(MARKED)
	$(BIN)/dreamer embedded sprites runs/limited_data/all_three $(TENTH) $(ROUGH) $(MARKED)
	$(BIN)/dreamer ablate limited_data --parallel 2
	$(BIN)/dreamer embedded sprites runs/conditions/sprites $(ALL) $(HARD)
	$(BIN)/dreamer ablate conditions --parallel 2

# Two files at a time: half of a test's time Ray and DeepSpeed start up.
test: lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

audit: setup
	@bash .ci/audit

browser: setup
	@bash .ci/browser

# Curation and training killed fifty times each at random moments (CHAOS_SEED chooses others): curation leaves
# the same bytes in the end, training the same losses and weights. Then the table of infra/README.md: nodes that
# come, go and die, stores that spill, a full disk, a lost head.
chaos: setup
	CHAOS_KILLS=50 $(BIN)/python -m pytest -s tests/pipelines/curation/test_kill.py tests/pipelines/training/test_kill.py
	$(BIN)/python -m tests.chaos

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

models: setup
	$(BIN)/dreamer embedded models pipelines/embedded/weights

clean:
	rm -rf .pytest_cache .ruff_cache .mypy_cache build ./*.egg-info
	find pipelines modeling jobs tests -name __pycache__ -type d -prune -exec rm -rf {} +
