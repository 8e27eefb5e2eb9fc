# The inner loop: `just` lists it. Each recipe is what CONTRIBUTING.md says to type. `tests/run` has to have run once, for
# the Python environment and the servers that it installs.

# The same for every call of cargo: a package alone, or other features, would have the dependencies compiled again.
all := "--workspace --features chronik-store/servers,chronik-indexer/servers"
python := env("CHRONIK_TEST_CACHE", home_directory() / ".cache/chronik-tests") / "python-" + `sha256sum tests/requirements.txt | cut -c1-16` / "bin"
pytest := "CHRONIK_BINARY=" + justfile_directory() / "target/debug/chronik " + python / "pytest --config-file tests/pyproject.toml"

_list:
    @just --list --unsorted

# Formats and lints Rust and Python
lint:
    cargo fmt --all
    cargo fmt --manifest-path tests/clients/rust/Cargo.toml
    {{python}}/ruff format --quiet --config tests/pyproject.toml tests infra
    {{python}}/ruff check --quiet --config tests/pyproject.toml tests infra
    cargo clippy --quiet {{all}} --all-targets -- -D warnings

# The unit tests whose module path has FILTER in it: `just unit wal::`
unit filter="":
    cargo test --quiet {{all}} --lib -- {{filter}}

# The unit tests of one crate alone: `just crate chronik-ingest wal::`; compiles some dependencies once more, the first time
crate name filter="":
    cargo test --quiet --package {{name}} --lib -- {{filter}}

# The tests of one file beside a crate's sources: `just file search`
file name filter="":
    cargo test --quiet {{all}} --test {{name}} -- {{filter}}

# Stores and queues against real servers
stores:
    PYTHONPATH=tests {{python}}/python -m servers run cargo test --quiet {{all}} --test stores --test queues

# The programs that end-to-end tests start
build:
    cargo build --quiet {{all}} --bins --test frames

# One file of the end-to-end suite: `just e2e kill -k kill_9`
e2e name *arguments: build
    {{pytest}} tests/e2e/test_{{name}}.py {{arguments}}

# Checks of the deployment templates and of these pages: `just infra docs`
infra name *arguments: build
    {{pytest}} tests/infra/test_{{name}}.py {{arguments}}

# Any bytes for the decoders named, or for all, a minute each
fuzz *arguments:
    PYTHONPATH=tests {{python}}/python -m fuzz install
    PYTHONPATH=tests {{python}}/python -m fuzz {{arguments}}

# Everything that must pass; with --all what takes long, too
test *arguments:
    tests/run {{arguments}}

# A local broker, indexer and search on ./data
run *settings: build
    target/debug/chronik {{settings}}

# What docs/benchmarks.md measures
bench *arguments:
    cargo build --release --locked --workspace --bins
    PYTHONPATH=tests:tests/e2e CHRONIK_BINARY=target/release/chronik {{python}}/python tests/load/indexers.py {{arguments}}

# Writes docs/clients.md anew
clients:
    PYTHONPATH=tests {{python}}/python -m clients page >docs/clients.md

# Writes the golden files anew: say why in the commit
golden:
    CHRONIK_REGENERATE_GOLDEN=1 cargo test --quiet {{all}} --lib --test archives -- golden
