#!/usr/bin/env bash
# Installs what is missing, builds, and runs every check and every test that needs no GPU.
#
#   scripts/test.sh              checks of the sources, then the build and its tests
#   scripts/test.sh --sanitize   also a part of the tests under AddressSanitizer and UndefinedBehaviorSanitizer;
#                                the default where the environment sets CI
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  "") sanitize=${CI:+yes} ;;
  --sanitize) sanitize=yes ;;
  *)
    echo "usage: scripts/test.sh [--sanitize]" >&2
    exit 2
    ;;
esac
. scripts/setup.sh
transxssm_setup_tests

# What runs under the sanitizers: our own memory and threads. What is left out repeats it in longer runs.
sanitized=(core config data ops optim checkpoint export)

# Tests run side by side, so each has one thread for LibTorch; waiting OpenMP threads spin.
export OMP_NUM_THREADS=1 UBSAN_OPTIONS=print_stacktrace=1
step() { printf '\n\033[1m==> %s (after %d s)\033[0m\n' "$*" "$SECONDS"; }

step "Checking format, layers and files"
scripts/format.sh --check
scripts/check_layers.py
scripts/check_files.py

build() {  # preset, targets
  step "Building preset $1"
  cmake --preset "$1" >/dev/null
  cmake --build --preset "$1" ${2:+--target "${@:2}"}
}

if [[ -n ${sanitize:-} ]]; then
  build asan "${sanitized[@]/#/test_}"
  step "Tests under the sanitizers"
  ctest --test-dir build/asan --label-regex '^cpu$' --tests-regex "^($(IFS='|' && echo "${sanitized[*]}"))/" \
    --output-on-failure --no-tests=error --parallel "$(nproc)"
fi
build "$TRANSXSSM_PRESET"
step "Tests"
ctest --test-dir "build/$TRANSXSSM_PRESET" --label-regex '^cpu$' --output-on-failure --no-tests=error \
  --no-label-summary --parallel "$(nproc)"
