# The commands people use. `just` comes from PyPI and npm too: `pipx install rust-just`, `npm install --global rust-just`.

# Lists the commands.
default:
    @just --list

# What to run while you work: format, lints, and the tests that never wait.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
    cargo test --locked --package alvys-auth-core --package alvys-auth-config --package alvys-auth-driver

# All tests, or those of one package: `just test --package alvys-auth-ureq`.
test *arguments="--workspace":
    cargo test --locked {{ arguments }}

# Everything a change must pass.
gate:
    .ci/run

# Shell scripts, spelling, links, manifests and workflows; then licences and unused dependencies.
lint:
    .ci/checks
    .ci/dependencies

# Compares the public API of each library with its reviewed snapshot; `just api --accept` takes the new one.
api *arguments:
    .ci/api {{ arguments }}

# The documentation, as docs.rs shows it.
docs:
    cargo doc --workspace --all-features --no-deps --open

# A local Alvys to try things out.
sandbox port="7311":
    cargo run --package alvys-auth-cli -- sandbox --port {{ port }}

# Builds every package of a release and tries it. Debian, as root.
packages:
    .ci/packages
