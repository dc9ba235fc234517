# Every target with its help line: `make help`. What is fetched or made goes into git-ignored folders:
# .venv/ (Python), .tools/ (other programs), .run/ (what runs leave).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
PIP := -m pip install --quiet --disable-pip-version-check --no-input
BIN := .venv/bin
CHECKED := meshkit services localmesh toolchain deploy/kind tests benchmarks
PROTO_ENV := .tools/proto-env
LOCK_ENV := .tools/lock-env
BENCH_ENV := .tools/bench-env
BROWSER_ENV := .tools/browser-env
PROTOS := book faults helloworld route_guide
PROTO_FILES := $(PROTOS:%=%.proto)
# The toolkit's own, beside the code that uses it.
ETCD_RPC := meshkit/etcd/rpc
GENERATED := $(foreach name,$(PROTOS:%=proto/%) $(ETCD_RPC),$(name)_pb2.py $(name)_pb2.pyi $(name)_pb2_grpc.py)
# Writes the stubs below a folder: $(call generate,FOLDER).
generate = for of in "proto $(PROTO_FILES)" ". $(ETCD_RPC).proto"; do \
	set -- $$of; into="$(1)/$$1"; mkdir -p "$$into"; include=$$1; shift; \
	$(PROTO_ENV)/bin/python -m grpc_tools.protoc -I"$$include" --python_out="$$into" --pyi_out="$$into" --grpc_python_out="$$into" "$$@"; \
done

# A stamp holds the checksums of what it was made from, so that a pulled change or another Python redoes the
# step and a mere `touch` or a fresh checkout's file times do not. PYTHON counts only where it is given: a .venv
# made with another interpreter is kept otherwise.
VENV_STAMP := .venv/.ready
TOOLS_STAMP := .tools/.ready
VENV_SOURCES := Makefile pyproject.toml requirements/build.lock requirements/dev.lock
TOOLS_SOURCES := requirements/java.lock $(sort $(wildcard toolchain/*.py toolchain/*.toml toolchain/sources/*.py toolchain/modules/*/go.*))
# What a stamp speaks for has to be there, too: a program of 0 bytes or one that cannot be run is none.
program = [ -s $(1) ] && [ -x $(1) ]
stamp = { "$(if $(filter file,$(origin PYTHON)),$(BIN)/python,$(PYTHON))" --version; pwd; sha256sum $(1) 2>/dev/null || shasum -a 256 $(1); }

##@ Run

.PHONY: demo
demo: setup ## start etcd, Zipkin, 3 replicas and a client here; REPLICAS= CALLS= RATE= change it, STORY=1 tells a story
	@exec $(BIN)/python -m localmesh demo $(if $(REPLICAS),--replicas $(REPLICAS)) $(if $(CALLS),--calls $(CALLS)) $(if $(RATE),--rate $(RATE)) $(if $(STORY),--story)

.PHONY: setup
setup: tools ## make .venv and .tools: Python packages, etcd, Zipkin, java (PYTHON= picks the interpreter)

##@ Check

.PHONY: test
test: setup ## everything: lint, format, types, generated code, the chart, then unit and integration tests
	@$(MAKE) --no-print-directory -j2 lint types proto-check
	@$(MAKE) --no-print-directory chart-check
	@$(BIN)/python -m pytest tests/unit tests/integration -n 3 --dist loadfile --cov --cov-report=html:.run/coverage/html

.PHONY: unit
unit: venv ## the unit tests: no port, no sleep, seconds
	@$(BIN)/python -m pytest tests/unit

.PHONY: integration
integration: setup helm ## the integration tests: they start a real etcd and a real Zipkin on free ports
	@$(BIN)/python -m pytest tests/integration

# Of meshkit's wheel: the packages that the programs are fixed to, and current ones.
BESIDE := fixed current
.PHONY: beside
beside: setup $(BESIDE:%=.tools/beside-%/.ready) ## meshkit's wheel beside the fixed packages and beside current ones: the examples, on both
	@for packages in $(BESIDE); do \
		export EXAMPLES_PYTHON="$(CURDIR)/.tools/beside-$$packages/bin/python" PYTHONPATH="$(CURDIR)/proto"; \
		"$$EXAMPLES_PYTHON" -P -W error -c 'import google.protobuf as p, meshkit; print("meshkit in", meshkit.__file__.rpartition("lib")[2], "beside protobuf", p.__version__)'; \
		$(BIN)/python -m pytest -q tests/integration/test_example.py tests/integration/test_chain.py tests/integration/test_route_guide.py $$(ls -d tests/beside/test_$$packages.py 2>/dev/null); \
	done

.PHONY: browser
browser: setup $(BROWSER_ENV)/.ready ## the live page in headless Chromium (from PATH); TESTS= picks, SCREENSHOTS=1 renews docs/images/page-*.png
	@PYTHONPATH=$(BROWSER_ENV) $(BIN)/python -m pytest $(or $(TESTS),tests/browser) $(if $(SCREENSHOTS),--screenshots)

.PHONY: faults
faults: setup ## break etcd, network, replicas and Zipkin on purpose; prints what each fault costs (some minutes)
	@$(BIN)/python -m pytest tests/faults -n $(or $(WORKERS),4)

.PHONY: interop
interop: setup interop-tools $(BENCH_ENV)/.ready ## the mesh with other people's programs: Jaeger, Prometheus, OpenTelemetry, go-kit, grpcurl; TESTS=
	@$(BIN)/python -m pytest tests/interop -n 2 --dist loadfile $(TESTS)

# Jaeger last: it takes the longest, and what is missing is to be told first.
.PHONY: interop-tools
interop-tools: venv
	@$(BIN)/python -m toolchain prometheus grpcurl go-kit jaeger

.PHONY: soak
soak: setup ## calls for MINUTES=10 under random faults from SEED=, each of them accounted for
	@exec $(BIN)/python -m localmesh soak $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: e2e
e2e: setup cluster-tools ## install, scale, upgrade, kill and cut off on Kubernetes, every trace checked; TLS=1 KEEP=1 TESTS= WORKERS=
	@exec $(BIN)/python -m tests.e2e $(TESTS)

.PHONY: e2e-mutations
e2e-mutations: setup cluster-tools ## switch off a promise at a time in the images: the e2e tests have to notice each; MUTANTS= KEEP=1
	@exec $(BIN)/python -m tests.e2e.mutations $(MUTANTS)

.PHONY: golden
golden: setup ## write tests/golden anew: flags, messages, headers, keys, spans, log lines as they are now
	@GOLDEN=renew $(BIN)/python -m pytest -q tests/unit/services tests/unit/program/test_log_events.py tests/integration/test_contracts.py

# The same hooks, with the same arguments, are in .pre-commit-config.yaml.
.PHONY: lint
lint: venv .tools/bin/actionlint ## style and likely mistakes: Python, shell, Dockerfiles, workflows, YAML, spelling
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@git ls-files -z | xargs -0 $(BIN)/codespell
	@git ls-files -z '*.yaml' '*.yml' | xargs -0 $(BIN)/yamllint --strict
	@git grep -lzE '^#!.*\b(ba)?sh$$' | xargs -0 $(BIN)/shellcheck --external-sources --source-path=SCRIPTDIR
	@git ls-files -z '*Dockerfile' | xargs -0 $(BIN)/hadolint
	@.tools/bin/actionlint -shellcheck $(BIN)/shellcheck
	@$(BIN)/zizmor --offline --quiet --persona=pedantic .github/workflows

.PHONY: types
types: venv ## type hints (mypy, strict)
	@$(BIN)/mypy deploy/helm/document_values.py deploy/helm/bookmesh/files/*.py $(foreach folder,$(CHECKED),$(if $(shell find $(folder) -name '*.py' -print -quit 2>/dev/null),$(folder)))

# The generator, grpcio-tools 1.62, has no wheels for Python 3.13 and newer.
.PHONY: proto-check
proto-check: venv ## fail if the committed stubs are not what `make proto` generates
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then \
		echo "proto: generated code is not checked: the generator cannot be had for $$($(BIN)/python --version)"; \
	else \
		$(MAKE) --no-print-directory proto-compared; \
	fi

.PHONY: proto-compared
proto-compared: $(PROTO_ENV)/.ready
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(call generate,$$fresh); \
	for file in $(GENERATED); do \
		cmp -s "$$file" "$$fresh/$$file" || { echo "$$file is not what the .proto generates: run 'make proto' and commit the result" >&2; exit 1; }; \
	done; echo "proto: generated code is up to date"

.PHONY: chart-check
chart-check: helm ## the chart: helm lint, Kubernetes' schemas, its own schema, every template and toggle, the values' table
	@$(BIN)/python deploy/helm/document_values.py --check
	@$(BIN)/python -m pytest tests/chart -n 2 -q

##@ Kubernetes

.PHONY: images
images: venv ## build the images of book-server and book-client (Docker); IMAGES=registry|source picks their base
	@exec $(BIN)/python -m deploy.kind images

.PHONY: kind-up
kind-up: cluster-tools ## make a cluster of three nodes with the images in it; CLUSTER= ZIPKIN_PORT= IMAGES= NODE= IP_FAMILY= change it
	@exec $(BIN)/python -m deploy.kind up

.PHONY: kind-down
kind-down: cluster-tools ## delete the cluster, its network and its context; CLUSTER= names another
	@exec $(BIN)/python -m deploy.kind down

.PHONY: cluster-tools
cluster-tools: venv
	@$(BIN)/python -m toolchain kind kubectl helm

.PHONY: helm
helm: venv
	@$(BIN)/python -m toolchain helm

##@ Measure

.PHONY: bench
bench: setup $(BENCH_ENV)/.ready ## speed, side by side with bare gRPC and the usual stack (about 6 minutes); ROUNDS= SECONDS= ONLY=
	@$(BIN)/python -m benchmarks $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(filter file environment command,$(firstword $(origin SECONDS))),--seconds $(SECONDS)) $(if $(ONLY),--only $(ONLY))

##@ Change

.PHONY: chart-docs
chart-docs: venv ## write docs/values.md, the table of the chart's values, from the comments in values.yaml
	@$(BIN)/python deploy/helm/document_values.py

.PHONY: flag-docs
flag-docs: venv ## write docs/flags.md, the tables of both programs' flags, from the programs
	@$(BIN)/python services/document_flags.py

.PHONY: format
format: venv ## format the code and repair what ruff can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: proto
proto: $(PROTO_ENV)/.ready ## generate the stubs from proto/*.proto and the toolkit's own
	@$(call generate,.)

.PHONY: lock
lock: $(LOCK_ENV)/.ready ## resolve requirements/*.lock again; UPGRADE=1 takes newer versions
	@compile="$(LOCK_ENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)"; \
	export UV_CUSTOM_COMPILE_COMMAND="make lock"; \
	for name in build java proto current; do echo "requirements/$$name.lock"; $$compile requirements/$$name.in -o requirements/$$name.lock; done; \
	echo requirements/runtime.lock; $$compile pyproject.toml -o requirements/runtime.lock; \
	echo requirements/bench.lock; $$compile requirements/bench.in -o requirements/bench.lock; \
	echo requirements/dev.lock; $$compile requirements/dev.in pyproject.toml -c requirements/runtime.lock -o requirements/dev.lock; \
	echo requirements/browser.lock; $$compile requirements/browser.in -o requirements/browser.lock

.PHONY: clean
clean: ## remove everything that was made here (the cache in ~/.cache/bookmesh stays)
	@rm -rf .venv .tools .run dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## show this
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv:
	@$(call stamp,$(VENV_SOURCES)) 2>&1 | cmp -s - $(VENV_STAMP) && $(call program,$(BIN)/python) && $(call program,$(BIN)/book-server) || { \
		"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is $$("$(PYTHON)" --version 2>&1): choose one with 'make PYTHON=python3.12 setup'" >&2; exit 1; }; \
		echo "setting up .venv with $$("$(PYTHON)" --version) (about half a minute)" >&2; \
		rm -rf .venv; \
		"$(PYTHON)" -m venv .venv; \
		$(BIN)/python $(PIP) --require-hashes --no-deps -r requirements/build.lock; \
		$(BIN)/python $(PIP) --require-hashes --no-deps --no-build-isolation -r requirements/dev.lock; \
		$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .; \
		$(call stamp,$(VENV_SOURCES)) > $(VENV_STAMP) 2>&1; \
	}

.tools/bin/actionlint: toolchain/tools.py toolchain/pins.toml | venv
	@$(BIN)/python -m toolchain actionlint
	@touch -h $@

.PHONY: tools
tools: venv
	@$(call stamp,$(TOOLS_SOURCES)) 2>&1 | cmp -s - $(TOOLS_STAMP) && $(call program,.tools/bin/etcd) && $(call program,.tools/bin/java) && [ -s .tools/zipkin.jar ] || { \
		echo "setting up .tools" >&2; \
		$(BIN)/python -m toolchain; \
		$(call stamp,$(TOOLS_SOURCES)) > $(TOOLS_STAMP) 2>&1; \
	}

# The generator's packages and the resolver do not fit beside the project's, so each has an environment of its own.
$(PROTO_ENV)/.ready: requirements/proto.lock | venv
	@echo "setting up the stub generator (some seconds)" >&2; rm -rf $(PROTO_ENV); $(BIN)/python -m venv $(PROTO_ENV)
	@$(PROTO_ENV)/bin/python $(PIP) --require-hashes -r $<
	@touch $@

$(BENCH_ENV)/.ready: requirements/bench.lock | venv
	@echo "setting up what the benchmarks compare with (half a minute)" >&2; rm -rf $(BENCH_ENV); $(BIN)/python -m venv $(BENCH_ENV)
	@$(BENCH_ENV)/bin/python $(PIP) --require-hashes -r $<
	@touch $@

# Without click, etcd3 or anything else that the toolkit does not ask for by itself, where the packages are current.
.tools/beside-%/.ready: requirements/current.lock requirements/runtime.lock requirements/build.lock $(shell find meshkit -name '*.py' -o -name pyproject.toml) | venv
	@echo "setting up meshkit's wheel beside the $* packages (half a minute)" >&2; rm -rf $(@D); $(BIN)/python -m venv $(@D)
	@$(@D)/bin/python $(PIP) --require-hashes --no-deps -r requirements/$(if $(filter fixed,$*),runtime,$*).lock
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir $(@D)/wheel ./meshkit
	@$(@D)/bin/python $(PIP) --no-deps $(@D)/wheel/meshkit-*.whl
	@$(@D)/bin/python -m pip check
	@touch $@

# A folder that is put beside .venv's packages, as the tests use both.
$(BROWSER_ENV)/.ready: requirements/browser.lock | venv
	@echo "setting up what drives the browser (some seconds)" >&2; rm -rf $(BROWSER_ENV)
	@$(BIN)/python $(PIP) --require-hashes --no-deps --target $(BROWSER_ENV) -r $<
	@touch $@

$(LOCK_ENV)/.ready: requirements/resolver.in | venv
	@echo "setting up the resolver (some seconds)" >&2; rm -rf $(LOCK_ENV); $(BIN)/python -m venv $(LOCK_ENV)
	@$(LOCK_ENV)/bin/python $(PIP) -r $<
	@touch $@
