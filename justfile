# SPDX-License-Identifier: MIT OR Apache-2.0
# The steps of .ci/run by name. `just` lists them, and `just ci` runs all of them.

_list:
    @just --list --unsorted

# Runs all steps, or those that the arguments name
ci *steps:
    .ci/run {{ steps }}

# Runs all tests, or those that the arguments of `cargo test` name, and prints a summary
test *arguments="--workspace":
    .ci/test {{ arguments }}

# Installs Debian's packages for tests
packages: (ci "packages")

# Installs cargo-deny and cargo-fuzz below target/tools
tools: (ci "tools")

# Checks formatting
formatting: (ci "formatting")

# Runs the lints in Cargo.toml
clippy: (ci "clippy")

# Checks that modules depend on each other in one direction
cycles: (ci "cycles")

# Checks licenses, versions and sources of all crates
dependencies: (ci "dependencies")

# Builds the documentation, including that of private items
documentation: (ci "documentation")

# Runs README's quick start, with all tests, as an ordinary user
readme-commands: (ci "readme-commands")

# Starts and stops the helper as README describes
readme-helper: (ci "readme-helper")

# Runs the tests that need root
tests: (ci "tests")

# Tests the static probes
usdt: (ci "usdt")

# Counts the instructions of decoding and encoding
instructions: (ci "instructions")

# Fuzzes each target for six seconds
fuzz: (ci "fuzz")

# Tests the server's threads under a controlled scheduler
shuttle: (ci "shuttle")

# Builds the packages twice, and compares them
dist: (ci "dist")

# Runs the scenarios in virtual machines
vm: (ci "vm")
