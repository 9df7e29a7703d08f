# `make demo` and `make test` do all set-up themselves; see README.md.
.PHONY: demo test test-binaries bridge sim chaos chaos-binaries storm languages bench lint fmt guests build clean

CARGO ?= cargo
MINUTES ?= 3
# One selection of packages for all that is tested: another one has other features, and compiles wasmtime anew.
# Test programs and the bench's plugins are guests: their exports have names that no linker of a host takes.
# LINTED=1 has Clippy compile it, so that CI compiles nothing twice.
export TESTED := --workspace --exclude sandbar-programs --exclude sandbar-bench-guests --features sandbar-broker-rabbitmq/tls,sandbar-chaos/sqs $(if $(LINTED),--config scripts/lint.toml)
TARGET = $(or $(CARGO_TARGET_DIR),target)
CHAOS = $(TARGET)/debug/sandbar-chaos

build:
	$(CARGO) build --release -p sandbar

# Plugins and test programs, built from source into guests/; ONLY=github-router for one.
guests:
	scripts/build-guests.sh $(ONLY)

# On the embedded log, or BROKER=kafka|nats|rabbitmq|sqs with the server as URL=...
# Unoptimised, and with the packages of the tests (of whose features cargo thinks when an example is asked for): it
# begins sooner, and `make test` goes on from there.
demo:
	$(CARGO) build $(TESTED) --bin sandbar --bin sandbar-demo --bin sandbar-build --example everything
	SANDBAR_BUILD=$(TARGET)/debug/sandbar-build scripts/build-guests.sh github-router github-router-v2 github-notifier
	$(TARGET)/debug/sandbar-demo $(if $(BROKER),--broker $(BROKER)) $(if $(URL),--url $(URL))

# ARGS are those of `cargo test`.
test:
	scripts/test.sh $(ARGS)

# What the tests, `make sim BUILT=1` and `make chaos BUILT=1` run.
test-binaries:
	$(CARGO) build $(TESTED) --all-targets
	SANDBAR_BUILD=$(TARGET)/debug/sandbar-build scripts/build-guests.sh

# Kafka to NATS to RabbitMQ to SQS to Kafka: EVENTS=n with keys, each counted and in order.
bridge:
	EVENTS=$(or $(EVENTS),100000) scripts/test.sh --test bridge -- --nocapture

# The delivery contract on virtual time: SEEDS=n, FROM=n, SECONDS=n, or SEED=n for one with its history;
# BUILT=1 takes what `make test-binaries` has built.
sim:
	$(CARGO) test $(if $(BUILT),$(TESTED),--release -p sandbar-pipeline) --test simulation seeds -- --nocapture

# Real brokers, killed and cut off: MINUTES=n on Kafka, a third of it on the embedded log; or on BROKER=kafka|log|nats|rabbitmq|sqs.
# BUILT=1 takes the binaries and plugins that `make test-binaries` has made.
chaos: $(if $(BUILT),,guests chaos-binaries)
ifdef BROKER
	$(CHAOS) --broker $(BROKER) --minutes $(MINUTES) --seed $(or $(SEED),1)
else
	$(CHAOS) --broker kafka --minutes $(MINUTES) --seed $(or $(SEED),1)
	$(CHAOS) --broker log --minutes $$(echo "$(MINUTES)" | awk '{ print $$1 / 3 }') --seed $(or $(SEED),1)
endif

chaos-binaries:
	$(CARGO) build -p sandbar -p sandbar-chaos $(if $(filter sqs,$(BROKER)),--features sandbar/sqs --features sandbar-chaos/sqs)

# Runtimes that join and leave every few seconds while slow handlers retry.
storm: guests chaos-binaries
	$(CHAOS) --scenario storm --minutes 2 --seed $(or $(SEED),1)

# What a plugin costs in each language; the table of docs/languages.md.
languages: guests
	scripts/build-languages.sh
	$(CARGO) run --release -p sandbar-languages

# What Sandbar costs, beside native references and peers: tables in target/bench/. QUICK=1, or ONLY=suite,suite.
bench:
	scripts/bench.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(if $(LINTED),-p sandbar-programs -p sandbar-bench-guests,--workspace --features sandbar-chaos/sqs --features sandbar-broker-rabbitmq/tls) --all-targets -- -D warnings
	scripts/contract-tests.py > /dev/null
	scripts/deny.sh

fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean
	rm -rf guests
