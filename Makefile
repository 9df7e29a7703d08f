# `make demo` and `make test` do all set-up themselves; see README.md.
.PHONY: demo test lint fmt guests build clean

CARGO ?= cargo

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
