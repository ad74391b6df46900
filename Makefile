# Every command of the project. `make run` and `make test` need Python 3.11 or later, make, git and
# a package index; nothing else has to be installed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each is written when everything it stands for is installed, so an interrupted installation starts
# anew; so does a copy in another place, because an environment knows where it lies.
PLACE := $(shell pwd | cksum | cut -d' ' -f1)
RUNTIME := $(VENV)/.runtime-$(PLACE)
DEV := $(VENV)/.dev-$(PLACE)
# buf keeps its cache here, so that no home directory is needed.
export BUF_CACHE_DIR := $(CURDIR)/$(VENV)/.buf
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What a shell may have set for another Python.
unexport PYTHONHOME PYTHONPATH PIP_TARGET PIP_USER
# A proxy is for the way out, and gRPC would take it to the services on this machine too.
COMMA := ,
OTHERS := $(subst $(COMMA), ,$(or $(no_proxy),$(NO_PROXY)))
export no_proxy := 127.0.0.1,localhost,::1$(addprefix $(COMMA),$(OTHERS))
# Slow networks are waited for longer than pip does by itself, unless somebody has said how long.
export PIP_RETRIES ?= 7
ifndef PIP_DEFAULT_TIMEOUT
export PIP_TIMEOUT ?= 60
endif
# As many test processes as there are cores; each brings its own PostgreSQL. Not `WORKERS`, which is
# a setting of the services, and make hands on what is set.
TEST_PROCESSES ?= 2
CHECKS := lint imports types contract pytest
# pip asks again for what is not answered, but gives up when a download breaks off: once more then,
# for what is missing.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --require-hashes
INSTALL = $(PIP_INSTALL) -r $(1) || { echo >&2 "Once more ..."; $(PIP_INSTALL) -r $(1); }

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' \
		| while IFS=$$'\t' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

.PHONY: run
run: $(RUNTIME) ## Bring up PostgreSQL, seeded data and the three services, until Ctrl-C
	@exec $(BIN)/python -m services

.PHONY: test
test: $(DEV) ## Run every check that CI runs
	@echo "release-manager $$(git describe --always --dirty 2>/dev/null || echo 'without git')," \
		"$$($(BIN)/python --version), $$(uname -srm), $$(nproc) cores"; \
	summary= failed=; \
	for check in $(CHECKS); do \
		printf '\n=== make %s\n' "$$check"; began=$$SECONDS; \
		if $(MAKE) "$$check"; then result=passed; else result=FAILED failed+=" $$check"; fi; \
		summary+=$$(printf '  %-10s %s after %d s' "$$check" "$$result" $$((SECONDS - began)))$$'\n'; \
	done; \
	printf '\n=== all checks, %d s\n%s' "$$SECONDS" "$$summary"; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

.PHONY: lint
lint: $(DEV) ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: $(DEV) ## Put the code into the one format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format -w protos

.PHONY: imports
imports: $(DEV) ## Check who imports whom
	$(BIN)/lint-imports --no-logo

.PHONY: types
types: $(DEV) ## Check types
	$(BIN)/mypy

.PHONY: contract
contract: $(DEV) ## Check the protos, what they promised before, and their generated code
	$(BIN)/buf lint
	$(BIN)/python protos/generate.py --check
	@if [ -e protos/released.binpb ]; then \
		echo "$(BIN)/buf breaking --against protos/released.binpb"; \
		$(BIN)/buf breaking --against protos/released.binpb; \
	else echo "buf breaking: no contract has been released yet, so nothing can break"; fi

.PHONY: unit
unit: $(DEV) ## Run the tests that need no database
	$(BIN)/pytest tests/unit $(ARGS)

.PHONY: pytest
pytest: $(DEV) ## Run all tests, or those in ARGS="tests/unit -k rollback"
	@# A file stays in one process, because its tests may share a server; and one hash seed lets all
	@# processes find parameters taken from sets in one order.
	PYTHONHASHSEED=0 $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile $(ARGS)

.PHONY: faults
faults: $(DEV) ## Kill, cut off and tamper for long, as HAMMER_SECONDS=600 and others in the Makefile say
	HAMMER_SECONDS=$${HAMMER_SECONDS:-600} LEDGER_TAMPERINGS=$${LEDGER_TAMPERINGS:-1000} \
		FOLLOW_ENTRIES=$${FOLLOW_ENTRIES:-500000} FOLLOW_WRITERS=8 FOLLOW_RESTARTS=5 \
		EXPORT_ENTRIES=$${EXPORT_ENTRIES:-1000000} TRICKLE_SECONDS=$${TRICKLE_SECONDS:-120} \
		EXPLAINED_SITUATIONS=$${EXPLAINED_SITUATIONS:-500} \
		FAULT_POINTS=all CORPUS_MUTATIONS=$${CORPUS_MUTATIONS:-2500} \
		FOUR_EYES_RACES=$${FOUR_EYES_RACES:-10000} RACE_ROUNDS=$${RACE_ROUNDS:-2000} \
		WALK_SECONDS=$${WALK_SECONDS:-600} CROWD_EXAMPLES=$${CROWD_EXAMPLES:-200} CROWD_STEPS=40 \
		ROLLBACK_HISTORIES=$${ROLLBACK_HISTORIES:-500} PYTHONHASHSEED=0 \
		$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --hypothesis-profile new-examples \
		tests/faults tests/properties \
		tests/integration/audit/test_tampering.py tests/rpc/test_bad_input.py \
		tests/integration/deployment/test_explanations_agree.py $(ARGS)
	@# Examples that nobody has seen; `make test` takes the same ones each time.
	PYTHONHASHSEED=0 $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile -m hypothesis \
		--hypothesis-profile new-examples --timeout 3600 tests/unit tests/rpc
	@# Alone, because it compares times.
	LOGINS_OF_A_KIND=$${LOGINS_OF_A_KIND:-200} LOGINS_BCRYPT_ROUNDS=12 \
		$(BIN)/pytest tests/security/test_no_enumeration.py

.PHONY: bench
bench: $(DEV) ## Measure what is claimed, or what ARGS="appends unary" names
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: protos
protos: $(DEV) ## Generate the Python code of the protos
	$(BIN)/python protos/generate.py

.PHONY: docs
docs: $(DEV) ## Generate the parts of the manuals that come from the code
	$(BIN)/python -m docs.generate

.PHONY: released
released: $(DEV) ## Keep the contract of today as the one that buf breaking compares with
	$(BIN)/buf build -o protos/released.binpb

.PHONY: lock
lock: $(DEV) ## Pin the newest versions that pyproject.toml allows
	@for groups in "requirements.lock --group build" \
		"requirements-dev.lock --group build --group dev -c requirements.lock"; do \
		UV_SYSTEM_CERTS=1 $(BIN)/uv pip compile pyproject.toml --output-file $$groups --upgrade \
			--universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet \
			--custom-compile-command 'make lock'; \
	done

.PHONY: clean
clean: ## Remove what was installed and cached, but no data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(RUNTIME): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 \
		"Python 3.11 or later is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1): set" \
		"PYTHON, as in 'make run PYTHON=python3.11'."; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo >&2 \
		"$(PYTHON) cannot make virtual environments: install python3-venv."; exit 2; }
	@echo "Installing into $(VENV) ..."
	@[ -e $@ ] || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	@$(call INSTALL,requirements.lock)
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock $(RUNTIME)
	@echo "Installing the tools of development into $(VENV) ..."
	@$(call INSTALL,requirements-dev.lock)
	@touch $@
