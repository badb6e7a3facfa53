# The commands of a new user (`make demo`, `make test`) and of a developer (`make check`).
#
#   make demo          fetch weights and data, build, run the demonstration, keep the server running
#   ONCE=1 make demo   the same, but end after the table
#   make test          fetch what the tests need and run them all
#   make build         build the whyrank binary; FEATURES=whyrank/cuda make build is for NVIDIA GPUs
#   make fetch         fetch what the demonstration needs, without running it
#   make check         format, lints, licences, unused dependencies, spelling, room independence
#
# One profile for everything, and one folder for what is built, that outlives a clone.

CARGO_TARGET_DIR ?= $(HOME)/.cache/whyrank/target
export CARGO_TARGET_DIR

PYTHON ?= python3
WHYRANK = $(CARGO_TARGET_DIR)/release/whyrank

.DEFAULT_GOAL := build
.PHONY: build check demo fetch test tools

# Says everything that is missing at once, and how to get it.
tools:
	@missing=""; \
	command -v cargo >/dev/null || missing="$$missing\n  cargo: the Rust toolchain 1.95 or later (https://rustup.rs)"; \
	command -v cc >/dev/null || missing="$$missing\n  cc: a C compiler (Debian: apt install gcc libc6-dev)"; \
	command -v c++ >/dev/null || missing="$$missing\n  c++: a C++ compiler (Debian: apt install g++)"; \
	command -v $(PYTHON) >/dev/null || missing="$$missing\n  $(PYTHON): Python 3.9 or later (Debian: apt install python3)"; \
	$(PYTHON) -m pip --version >/dev/null 2>&1 || missing="$$missing\n  $(PYTHON) -m pip: pip (Debian: apt install python3-pip)"; \
	if [ -n "$$missing" ]; then printf "Missing on this machine:$$missing\n" >&2; exit 1; fi

build: tools
	cargo build --release --workspace --bin whyrank $(if $(FEATURES),--features $(FEATURES))

demo: build
	$(WHYRANK) demo --config config/demo.toml $(if $(ONCE),--once)

fetch: build
	$(WHYRANK) fetch --for demo

test: build
	$(WHYRANK) fetch --for tests
	cargo test --release --workspace
	@for name in chromium chromium-browser google-chrome-stable google-chrome; do \
	command -v $$name >/dev/null && exit 0; done; \
	echo "NOT RUN: the console in a browser; there is no Chromium (Debian: apt install chromium)"

check: tools
	bash .ci/run check
