# `make` lists what there is. Every target sets up first where it has to, so a fresh clone needs no other step.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# What you may set:  make train ARGS="model=tfidf_svm seed=2" PROCESSES=2
ARGS ?=
PROCESSES ?= 1
RUN ?=
CHAOS ?= short
VENV ?= .venv
# the first of these that is a Python of a version that the project was tried on
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3 python,\
	$(shell $(p) -c 'import sys; print("$(p)" if (3, 11) <= sys.version_info < (3, 14) else "")' 2>/dev/null)) python3)

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests of one file stay in one process, files run side by side, in the order that tests/conftest.py gives them.
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder

# `$(call unless_given,model=bert)` is model=bert, or nothing where ARGS chooses a model: Hydra refuses two values.
# An experiment chooses everything itself.
unless_given = $(if $(filter $(firstword $(subst =, ,$(1)))=% experiment=%,$(ARGS)),,$(1))
MAIN_JOB = $(strip $(call unless_given,model=bert) $(call unless_given,data=commands) $(ARGS))

# Every option is spelt out, so that a user's own accelerate file does not change what a target does. Without a GPU
# two ranks need --multi_gpu and this variable; `--cpu` would quietly start one.
LAUNCH = $(BIN)/accelerate launch --quiet --num_processes $(PROCESSES) --num_machines 1 --mixed_precision no \
	--dynamo_backend no
ifneq ($(PROCESSES),1)
LAUNCH += --multi_gpu --main_process_port 0
GPUS := $(if $(filter undefined,$(origin CUDA_VISIBLE_DEVICES)),$(shell nvidia-smi -L 2>/dev/null),$(filter-out -1,$(CUDA_VISIBLE_DEVICES)))
ifeq ($(strip $(GPUS)),)
LAUNCH := ACCELERATE_USE_CPU=true $(LAUNCH)
endif
endif

# The run that was asked for, or the newest finished one; where there is none, the main job is trained first.
CHOSEN_RUN = $(or $(RUN),latest)
ENSURE_RUN = $(if $(RUN),:,grep -qs '"state": *"finished"' runs/*/*/status.json || $(MAKE) train ARGS= PROCESSES=1)

.PHONY: help setup same-python audit train evaluate predict robustness sweep test test-slow journeys lint format ci benchmark chaos results clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo
	@echo '  ARGS="..." passes overrides or options on, PROCESSES=2 trains on two ranks, RUN=DIR names a run,'
	@echo '  PYTHON=... names a Python 3.11, 3.12 or 3.13 to make $(VENV) with.'

setup: same-python $(READY) ## make .venv (about 2 minutes; only when pyproject.toml or constraints.txt changed)

VERSION := -c 'import sys; print("%d.%d" % sys.version_info[:2])'
same-python:
ifneq ($(origin PYTHON),file)
	@test ! -x $(BIN)/python || test "$$($(BIN)/python $(VERSION))" = "$$($(PYTHON) $(VERSION))" || { \
		echo "$(VENV) has Python $$($(BIN)/python $(VERSION)), and $(PYTHON) is another: remove $(VENV), or" \
			"give another folder, as in make setup VENV=.venv-new PYTHON=$(PYTHON)" >&2; exit 2; }
endif

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
		echo 'Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is none: make setup PYTHON=/path/to/python3.11' >&2; \
		exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing what voicecommand needs into $(VENV): about 2 minutes.'
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,spoken]'
	@touch $@

train: $(READY) ## train and report; model=bert data=commands unless ARGS says otherwise
	$(LAUNCH) recipes/train.py $(MAIN_JOB)

evaluate: $(READY) ## the report of a saved run on its own data or ARGS="data=...": RUN=DIR, or the newest run
	@$(ENSURE_RUN)
	$(BIN)/python recipes/evaluate.py 'run=$(CHOSEN_RUN)' $(ARGS)

predict: $(READY) ## labels for commands: ARGS="'turn it off'" or ARGS="--input FILE"; RUN=DIR, or the newest run
	@$(ENSURE_RUN)
	@$(BIN)/python recipes/predict.py '$(CHOSEN_RUN)' $(or $(ARGS),'turn the lights off')

robustness: $(READY) ## a saved run under noise, or a recogniser's errors: RUN=DIR, or the newest run
	@$(ENSURE_RUN)
	$(BIN)/python recipes/robustness.py 'run=$(CHOSEN_RUN)' $(ARGS)

audit: $(READY) ## the problems of a data set: ARGS="data=file data.path=FILE", or the built-in commands
	$(BIN)/python recipes/audit.py $(strip $(call unless_given,data=commands) $(ARGS))

SWEEP = model=bert training.max_steps=40 training.learning_rate=1e-4,3e-4
sweep: $(READY) ## a multirun: an example of two learning rates, or ARGS="model=... seed=1,2,3"
	$(BIN)/python recipes/train.py --multirun $(or $(strip $(ARGS)),$(SWEEP))

test: $(READY) ## the quick tests
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not journey" $(ARGS)

test-slow: $(READY) ## the slow tests: real processes, short trainings, the README's commands
	$(BIN)/python -m pytest $(PARALLEL) -m slow $(ARGS)

journeys: $(READY) ## ten first hours of new users, as real processes (about 15 minutes)
	$(BIN)/python -m pytest --verbose $(ARGS) tests/journeys

lint: $(READY) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## put the style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One pytest for quick and slow together, and nothing after it: the last line says how many passed. The slow ones
# run the README's commands, with the main job cut short. `make journeys` has a target of its own.
ci: lint ## all that must hold: lint, types, every test, the README's commands
	$(BIN)/python -m pytest $(PARALLEL) -m "not journey" --durations=15 $(ARGS)

benchmark: $(READY) ## speed against the stock Trainer, into benchmarks/results/
	$(BIN)/python benchmarks/text_training.py $(ARGS)
	$(BIN)/python benchmarks/speech_training.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/inference.py

chaos: $(READY) ## trainings killed and damaged on purpose, and what is lost: docs/reliability.md; CHAOS=full for all
	$(BIN)/python benchmarks/chaos.py $(if $(filter full,$(CHAOS)),--full) $(ARGS)

results: $(READY) ## docs/results.md and the README's table from finished runs
	$(BIN)/python benchmarks/make_results.py $(ARGS)

clean: ## caches and build outputs; runs/ and .venv stay
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path './runs/*' -prune -exec rm -rf {} +
