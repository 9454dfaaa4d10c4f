# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest.
# The first target that runs makes .venv; it is installed again only when the requirements change.

.DEFAULT_GOAL := help
.PHONY: help demo test slow golden check format clean

PY := .venv/bin/python
INSTALLED := .venv/.installed

# The first of these that is supported is taken; trying them sees through pyenv's shims.
PYTHON ?= python3 python3.13 python3.12 python3.11
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

# An environment made by hand is kept and completed.
$(INSTALLED): pyproject.toml requirements.txt
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then \
		for python in $(PYTHON) ""; do \
			"$$python" -c '$(SUPPORTED)' 2>/dev/null && break; \
		done; \
		if [ -z "$$python" ]; then \
			echo "error: Python 3.11, 3.12 or 3.13 is needed; tried: $(PYTHON)." >&2; \
			echo "Name one with: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
			exit 1; \
		fi; \
		echo "Making .venv with $$python"; \
		if ! "$$python" -m venv .venv; then \
			echo "error: $$python cannot make a virtual environment." >&2; \
			echo "On Debian or Ubuntu: apt install python3-venv" >&2; \
			exit 1; \
		fi; \
	fi
	@echo "Installing into .venv: about 2.5 GB, one to a few minutes"
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

# --- the tour: data -> train -> eval -> vis -> export -> served -------------------------------------

DEMO_DATA := demo/data/tfrecord
DEMO_RUN := demo/run

demo: $(INSTALLED)  ## train, evaluate, draw and export a small model on generated images (5 minutes)
	rm -rf demo
	$(PY) datasets/build_shapes_data.py --output_dir=demo/data
	$(PY) train.py --dataset_dir=$(DEMO_DATA) --train_logdir=$(DEMO_RUN)
	$(PY) eval.py --dataset_dir=$(DEMO_DATA) --checkpoint_dir=$(DEMO_RUN) --eval_logdir=demo/eval
	$(PY) vis.py --dataset_dir=$(DEMO_DATA) --checkpoint_dir=$(DEMO_RUN) --vis_logdir=demo/vis
	$(PY) export_model.py --checkpoint_path=$(DEMO_RUN) --export_path=demo/export
	$(PY) -c 'import tensorflow as tf; \
		served = tf.saved_model.load("demo/export").signatures["serving_default"]; \
		image = tf.zeros([1, 200, 300, 3], tf.uint8); \
		print("reloaded:", {k: v.shape.as_list() for k, v in served(ImageTensor=image).items()})'

# --- tests and tools ------------------------------------------------------------------------------

test: $(INSTALLED)  ## set up and run the tests (what CI runs)
	$(PY) -m pytest -m "not slow"

slow: $(INSTALLED)  ## run the tests that `make test` leaves out
	$(PY) -m pytest -m slow

golden: $(INSTALLED)  ## run only the comparisons with the original implementation
	$(PY) -m pytest -m golden

check: $(INSTALLED)  ## formatting, lint, types, then the tests: run before every commit
	$(PY) -m ruff format --check
	$(PY) -m ruff check
	$(PY) -m mypy
	$(PY) -m pytest -m "not slow"

format: $(INSTALLED)  ## format the code and apply the linter's safe fixes
	$(PY) -m ruff check --fix --exit-zero
	$(PY) -m ruff format

clean:  ## remove the demo's output, build products and caches; .venv/ and runs/ stay
	rm -rf demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
