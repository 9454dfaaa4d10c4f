# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest.
# The first target that runs makes .venv; it is installed again only when the requirements change.

.DEFAULT_GOAL := help
.PHONY: help demo test slow soak golden fuzz bench check format clean

PY := .venv/bin/python
INSTALLED := .venv/.installed

# Two processes take the test files in turns; more would need more than 8 GB.
IN_PARALLEL := -n 2 --dist loadfile

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

demo: $(INSTALLED)  ## train, evaluate, draw and export a small model on generated images (5 minutes)
	rm -rf demo
	$(PY) datasets/build_shapes_data.py --output_dir=demo/data
	$(PY) train.py --dataset_dir=demo/data/tfrecord --train_logdir=demo/run \
		--preset=deeplabv3plus_mobilenet_v2 --atrous_rates=2 --atrous_rates=4 --atrous_rates=6 \
		--train_crop_size=129,129 --training_number_of_steps=1000 --base_learning_rate=0.05 \
		--min_scale_factor=0.75 --max_scale_factor=1.25
	$(PY) eval.py --dataset_dir=demo/data/tfrecord --checkpoint_dir=demo/run
	$(PY) vis.py --dataset_dir=demo/data/tfrecord --checkpoint_dir=demo/run --vis_logdir=demo/pictures
	$(PY) export_model.py --checkpoint_path=demo/run --export_path=demo/model
	TF_CPP_MIN_LOG_LEVEL=3 $(PY) examples/serve.py demo/model "$$(ls demo/data/JPEGImages/*.jpg | tail -n 1)"
	@$(PY) -c 'import json, sys; miou = json.load(open("demo/run/scores_val.json"))["mean_iou"]; \
		sys.exit(miou < 0.85 and f"error: mIoU {miou:.3f}, expected at least 0.85")'
	@echo
	@echo "Done. demo/pictures   what the network sees, beside the truth: look at *_panel.png"
	@echo "      demo/run        checkpoints, model card, scores_val.json, TensorBoard curves"
	@echo "      demo/model      the SavedModel that was just served"
	@echo "Next: your own images, with the commands of README.md, beginning with"
	@echo "      $(PY) -m datasets.doctor --image_folder=... --mask_folder=..."

# --- tests and tools ------------------------------------------------------------------------------

test: $(INSTALLED)  ## set up and run the tests (what CI runs)
	$(PY) -m pytest -m "not slow and not fuzz" $(IN_PARALLEL)

slow: $(INSTALLED)  ## run the tests that `make test` leaves out
	$(PY) -m pytest -m slow

soak: $(INSTALLED)  ## kill a training run ten times and compare its end with an undisturbed one
	$(PY) -m tests.soak

golden: $(INSTALLED)  ## run only the comparisons with the original implementation
	$(PY) -m pytest -m golden

fuzz: $(INSTALLED)  ## try thousands of damaged images, masks, tables and records (5 minutes)
	$(PY) -m pytest tests/fuzz -m fuzz

# Pythons that have what is measured against; see benchmarks/__main__.py.
PEER_PYTHON ?= $(PY)
KERAS_HUB_PYTHON ?= $(PY)

bench: $(INSTALLED)  ## measure against the peers that are installed (10 minutes)
	$(PY) -m benchmarks --peer_python=$(PEER_PYTHON) --keras_hub_python=$(KERAS_HUB_PYTHON)

check: $(INSTALLED)  ## formatting, lint, types, then the tests: run before every commit
	$(PY) -m ruff format --check
	$(PY) -m ruff check
	$(PY) -m mypy
	$(PY) -m pytest -m "not slow and not fuzz" $(IN_PARALLEL)

format: $(INSTALLED)  ## format the code and apply the linter's safe fixes
	$(PY) -m ruff check --fix --exit-zero
	$(PY) -m ruff format

clean:  ## remove the demo's output, build products and caches; .venv/ and runs/ stay
	rm -rf demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
