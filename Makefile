# The commands of this repository; `make` alone lists them.
#
# Settings of `make up` pass through, from the environment or as in `make up GATEWAYS=3`:
# GATEWAYS, ROUTERS, DATA_DIR, WEBSOCKET_HOST, WEBSOCKET_PORT, REDIS_URL, LOG_LEVEL; STORE=firestore runs it on Google's
# emulator, which comes with gcloud and needs Java; AUTH=firebase-emulator believes the tokens of Firebase's, which is installed.

VENV ?= .venv
PYTHON ?= python3
# Settings of `make load`, as in `make load USERS=2000 RATE=20 TIME=5m PROFILE=3g`: people · messages a second of all
# together · how long, from the first to come to the last to write · 2g, 3g or 4g links (none: this machine's own) ·
# worker processes · people who come a second (none: all within 30 s) · gateways of a cluster that runs already, by
# commas (none: a cluster of its own).
USERS ?= 300
RATE ?= 20
TIME ?= 1m
PROFILE ?=
WORKERS ?= 2
SPAWN ?=
URL ?=
# A part of `make topologies`, several by commas: valkey, redis8, redis7 · alone, sentinel, cluster.
BROKER ?=
TOPOLOGY ?=
# Settings of `make chaos`, as in `make chaos SECONDS=600 SEED=1`: how long faults come (`make fuzz`: how long it looks, all
# targets together) · which, and when · a file for the table.
SECONDS ?= 60
SEED ?= 1
OUT ?=
# More for the command at hand: `make test ARGS="-k broker -x"`, `make lock ARGS=--upgrade`.
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CLIENTS := tests/cluster/clients
RULES := tests/contracts/rules

# Stamps say what was installed; each is older than the file it was made from when that has changed.
LOCAL := $(VENV)/.installed-local
LOADTESTS := $(VENV)/.installed-loadtests
DEV := $(VENV)/.installed-dev
NODE := $(CLIENTS)/node_modules/.installed
RULES_TESTS := $(RULES)/node_modules/.installed
SERVERS := loadtests/compare/node/node_modules/.installed
FIREBASE := services/local/firebase/node_modules/.installed
CRDS := tests/k8s/crds/node_modules/.installed
CHECKOV := $(VENV)/checkov/.installed

.DEFAULT_GOAL := help
.PHONY: help up emulators test topologies model fuzz bench load scale chaos hostile microbench dashboards check k8s-check fmt docs lock clean pip need-node

help: ## list these commands
	@awk 'BEGIN {FS = ":[^#]*## "} /^[a-z0-9-]+:[^#]*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(LOCAL) $(if $(filter firebase-emulator,$(AUTH)),$(FIREBASE)) ## run the whole cluster on this machine, until Ctrl-C
	@exec $(BIN)/talowa up

emulators: $(FIREBASE) ## install Firebase's Auth emulator (npm's firebase-tools, 220 MB), for AUTH=firebase-emulator and its tests

test: $(DEV) $(NODE) $(RULES_TESTS) ## run all tests
	@exec $(BIN)/pytest $(ARGS)

topologies: $(DEV) $(NODE) ## the cluster suite on Valkey, Redis 8, Redis 7: alone, Sentinel, cluster (BROKER= TOPOLOGY= STORE= ARGS=)
	@BROKER=$(BROKER) TOPOLOGY=$(TOPOLOGY) $(BIN)/python -m tests.support.matrix $(ARGS)

model: $(DEV) ## larger worlds of the model than `make test` looks at (minutes; ARGS="--messages 2 --crashes 1")
	@exec $(BIN)/python -m tests.model $(ARGS)

fuzz: $(DEV) ## look for input that breaks a reader of what comes from outside: make fuzz SECONDS=60
	@exec $(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

bench: $(LOCAL) $(if $(filter firestore,$(STORE)),,$(SERVERS)) ## compare with Socket.IO on Node and python-socketio (15 minutes; ARGS=--quick: three), or the stores (STORE=firestore)
	@exec $(BIN)/python -m loadtests.$(if $(filter firestore,$(STORE)),record,compare) $(ARGS)

load: $(LOADTESTS) ## people on phones, on slow links if asked: make load USERS=2000 RATE=20 TIME=5m PROFILE=3g
	@exec $(BIN)/python -m loadtests.load --users $(USERS) --rate $(RATE) --time $(TIME) --workers $(WORKERS) \
		$(if $(PROFILE),--profile $(PROFILE)) $(if $(SPAWN),--spawn $(SPAWN)) $(if $(URL),--url $(URL)) $(ARGS)

microbench: $(DEV) ## what the hot paths cost, each by itself (tests/bench)
	@exec $(BIN)/pytest tests/bench $(ARGS)

scale: $(LOCAL) ## as many sockets as fit, growth, a killed gateway (20 minutes; ARGS="endure --minutes 10": a part)
	@exec $(BIN)/python -m loadtests.scale $(ARGS)

hostile: $(LOCAL) ## others' messages while somebody attacks, in every way (4 minutes; ARGS="events pings": some of them)
	@exec $(BIN)/python -m loadtests.hostile $(ARGS)

chaos: $(DEV) $(NODE) ## people under fire, a fault every few seconds, and one table: make chaos SECONDS=600 SEED=1
	@exec $(BIN)/python -m tests.chaos --seconds $(SECONDS) --seed $(SEED) $(if $(OUT),--out $(OUT)) $(ARGS)

dashboards: $(DEV) ## Prometheus, and Grafana if it is there, beside a cluster that `make up` runs (ARGS="--seconds 180 --pictures")
	@exec $(BIN)/python -m docs.dashboards.live $(ARGS)

check: $(DEV) ## what CI runs first: format, lint, types, import contracts, dead code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

k8s-check: $(DEV) $(CRDS) $(CHECKOV) ## the manifests: rendered, held to schemas, conventions and checkov
	@exec $(BIN)/pytest tests/k8s $(ARGS)

fmt: $(DEV) ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV) ## make what is generated: asyncapi.yaml, metrics.md, settings and sizing, dashboards, PrometheusRule
	$(BIN)/python -m docs.alerts
	$(BIN)/python -m docs.asyncapi
	$(BIN)/python -m docs.metrics
	$(BIN)/python -m docs.dashboards.grafana
	$(BIN)/python -m docs.settings
	$(BIN)/python -m docs.sizing

# `dev` first: it holds what all others hold, and they follow its versions. What is written names no
# registry: who installs decides where from.
lock: pip ## pin all dependencies anew, with hashes: requirements/*.txt
	@test -x $(BIN)/uv || $(PIP) install uv
	@for extra in dev loadtests local gateway router presence tracing build checkov; do \
		echo "requirements/$$extra.txt"; \
		case $$extra in build|checkov) what="--group $$extra" ;; *) what="pyproject.toml --extra $$extra" ;; esac; \
		case $$extra in dev|checkov) pins= ;; *) pins="--constraint requirements/dev.txt" ;; esac; \
		$(BIN)/uv pip compile $$what --output-file requirements/$$extra.txt $$pins \
			--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
			--custom-compile-command "make lock" --quiet $(ARGS) || exit 1; \
	done
	@! grep -n '://' requirements/*.txt

clean: ## remove what can be made again: environments, caches (not DATA_DIR)
	rm -rf $(VENV) $(CLIENTS)/node_modules $(RULES)/node_modules loadtests/compare/node/node_modules services/local/firebase/node_modules tests/k8s/crds/node_modules build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find libs services tests loadtests -name __pycache__ -type d -prune -exec rm -rf {} +

$(LOCAL): requirements/local.txt pyproject.toml | pip
	@echo "installing what the cluster needs (requirements/local.txt) …"
	@$(PIP) install --require-hashes -r requirements/local.txt
	@$(PIP) install --quiet --no-deps -e .
	@touch $@

$(LOADTESTS): requirements/loadtests.txt pyproject.toml | pip
	@echo "installing what plays people (requirements/loadtests.txt) …"
	@$(PIP) install --require-hashes -r requirements/loadtests.txt
	@$(PIP) install --quiet --no-deps -e .
	@touch $(LOCAL) $@

$(DEV): requirements/dev.txt pyproject.toml | pip
	@echo "installing what the tests need (requirements/dev.txt) …"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --quiet --no-deps -e .
	@touch $(LOCAL) $(LOADTESTS) $@

# Its pins are not the project's, so it has an environment of its own.
$(CHECKOV): requirements/checkov.txt | pip
	@echo "installing what looks for what is unsafe in manifests (requirements/checkov.txt, 290 MB) …"
	@$(BIN)/python -m venv $(VENV)/checkov
	@$(VENV)/checkov/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/checkov.txt
	@touch $@

# The JavaScript clients of the tests, Firebase's tests of rules (183 MB: they bring all of its library), the servers that
# the bench compares with, Firebase's Auth emulator, models of CRDs.
$(NODE) $(RULES_TESTS) $(SERVERS) $(FIREBASE) $(CRDS): %/node_modules/.installed: %/package-lock.json | need-node
	@echo "installing what $* needs …"
	@cd $* && npm ci --no-audit --no-fund
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed: install it, or name one you have, as in: make PYTHON=python3.12 up"; exit 1; }
	@echo "creating $(VENV) …"
	@$(PYTHON) -m venv $(VENV) || { rm -f $@; \
		echo "$(PYTHON) cannot make virtual environments: install its venv package (python3-venv)."; exit 1; }

# An environment that was made by other means may come without pip.
pip: | $(BIN)/python
	@$(PIP) --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip

need-node:
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null || { \
		echo "Node 20 or newer, with npm, is needed for JavaScript clients and servers: install nodejs."; exit 1; }
