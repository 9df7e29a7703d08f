# `make demo` and `make test` do all set-up themselves; see README.md.
.PHONY: demo test sim chaos storm lint fmt guests build clean

CARGO ?= cargo
MINUTES ?= 3
CHAOS = target/debug/sandbar-chaos

build:
	$(CARGO) build --release -p sandbar

# Plugins and test programs, built from source into guests/.
guests:
	scripts/build-guests.sh

demo: guests
	$(CARGO) build --release -p sandbar -p sandbar-demo
	target/release/sandbar-demo

test: guests
	scripts/test.sh

# The delivery contract on virtual time: SEEDS=n, FROM=n, SECONDS=n, or SEED=n for one with its history.
sim:
	$(CARGO) test --release -p sandbar-pipeline --test simulation seeds -- --nocapture

# Real brokers, killed and cut off: MINUTES=n on Kafka, a third of it on the embedded log.
chaos: guests
	$(CARGO) build -p sandbar -p sandbar-chaos
	$(CHAOS) --broker kafka --minutes $(MINUTES) --seed $(or $(SEED),1)
	$(CHAOS) --broker log --minutes $$(echo "$(MINUTES)" | awk '{ print $$1 / 3 }') --seed $(or $(SEED),1)

# Runtimes that join and leave every few seconds while slow handlers retry.
storm: guests
	$(CARGO) build -p sandbar -p sandbar-chaos
	$(CHAOS) --scenario storm --minutes 2 --seed $(or $(SEED),1)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	scripts/contract-tests.py > /dev/null
	scripts/deny.sh

fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean
	rm -rf guests
