# The rooms' commands. Each makes `.venv` ready first, which takes a moment once and no time afterwards.
PYTHON ?= python3
BIN := .venv/bin
SPHINX := -n -b dirhtml
IGNORED := .git .venv .pytest_cache .ruff_cache _build

.DEFAULT_GOAL := help
.PHONY: help setup site serve test lab evidence lock clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

setup:
	@$(PYTHON) -m lab.setup

site: setup  ## build the site
	@$(BIN)/sphinx-build $(SPHINX) -W --keep-going -j4 . _build/html
	@echo "The site: file://$(CURDIR)/_build/html/index.html (to have it served: make serve)"

serve: setup  ## build the site, serve it, rebuild what changes
	@$(BIN)/sphinx-autobuild $(SPHINX) -j4 --port 0 $(IGNORED:%=--ignore %) --re-ignore __pycache__ . _build/html

test: setup  ## run all tests
	@$(BIN)/python -m pytest -q

lab: setup  ## open the notebooks
	@cd notebooks && PYTHONPATH=$(CURDIR) ../$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root)

evidence: setup  ## run experiments in full and record what they show; CLAIM=id for one
	@$(BIN)/python -m lab $(CLAIM)

lock: export UV_PYTHON_DOWNLOADS = never
lock: COMPILE = $(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 $(UPGRADE)
lock: OLDEST = "SQLAlchemy==2.0.31; python_version < '3.14'" "SQLAlchemy==2.0.44; python_version >= '3.14'"
# The oldest that the recipes name, and the two between which Flask began to tear down before a stream.
lock: FLASKS = 2.3.3 3.1.1 3.1.2
lock: setup  ## pin what pyproject.toml asks for; UPGRADE=--upgrade for the newest
	@$(COMPILE) pyproject.toml -o requirements.lock
	@$(COMPILE) --group compiled -o requirements-compiled.lock
	@$(COMPILE) --group apache -o requirements-apache.lock
	@echo uv | $(COMPILE) --no-annotate - -o requirements-uv.lock
	@printf '%s\n' $(OLDEST) | $(COMPILE) --no-annotate --no-deps - -o requirements-oldest.lock
	@for flask in $(FLASKS); do echo "Flask==$$flask" | $(COMPILE) --no-annotate --no-deps -; done > requirements-flask.lock

clean:  ## delete what was built; the next build starts afresh
	@rm -rf _build
