#!/usr/bin/env bash
# Formats all C++ and CUDA sources; with --check changes nothing and fails where something would change.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
mode=(-i)
[[ ${1:-} == --check ]] && mode=(--dry-run --Werror)
# Clang-format of one version everywhere: releases differ in their output.
scripts/source_files.py | xargs -r clang-format --style=file "${mode[@]}"
echo "format: ok"
