#!/usr/bin/env bash
# Runs clang-tidy (.clang-tidy) on the named .cpp files, or on all of src: some 10 s a file, so it is no part of test.sh.
#
#   scripts/tidy.sh [FILE...]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
tools=$(dirname "$(command -v ninja)")
if [[ ! -x $tools/clang-tidy ]]; then  # the first releases that understand C++20's <source_location> are newer than Debian's
  transxssm_say "Installing with pip into ${tools%/bin}: clang-tidy==18.1.8"
  "$tools/python" -m pip install -q --disable-pip-version-check clang-tidy==18.1.8
fi
cmake --preset "$TRANSXSSM_PRESET" >/dev/null
cmake --build --preset "$TRANSXSSM_PRESET" --target version_header >/dev/null
if (($# == 0)); then
  mapfile -t files < <(scripts/source_files.py | grep '^src/.*\.cpp$')
  set -- "${files[@]}"
fi
# Without OpenMP: clang-tidy has no omp.h of its own, and cannot read GCC's.
printf '%s\n' "$@" | xargs -n 1 -P "$(nproc)" "$tools/clang-tidy" --quiet --warnings-as-errors='*' \
  --extra-arg=-Wno-unknown-warning-option --extra-arg=-fno-openmp -p "build/$TRANSXSSM_PRESET"
echo "tidy: ok"
