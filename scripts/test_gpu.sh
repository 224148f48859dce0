#!/usr/bin/env bash
# Runs every test labelled cuda (tests/*/*_cuda.cpp) on a machine with a GPU and ends with one line worth recording.
#
#   scripts/test_gpu.sh [FOLDER]        FOLDER is a build folder, build/release by default, or what --pack made of one
#   scripts/test_gpu.sh --pack FOLDER   copies from build/release what such a machine needs to run them without building:
#                                       the program, the tests and the distribution's libraries that they load
#
# LibTorch is looked for where the build had it, then in the PyTorch of python3.
set -euo pipefail
cd "$(dirname "$0")/.."

folders=$(printf '%s\n' tests/*/*_cuda.cpp | cut -d/ -f2 | sort -u)

if [[ ${1:-} == --pack ]]; then
  target=${2:?usage: scripts/test_gpu.sh --pack FOLDER}
  mkdir -p "$target/bin" "$target/lib"
  for name in transxssm $(sed 's/^/test_/' <<<"$folders"); do
    strip -o "$target/bin/$name" "build/release/bin/$name"
    ldd "build/release/bin/$name" | awk '/=> \// {print $3}' |
      { grep -E '/lib(sentencepiece|spdlog|fmt|yaml-cpp|xxhash|zstd|Catch2)[^/]*$' || true; }
  done | sort -u | xargs -r cp -Lt "$target/lib"
  du -sh "$target"
  exit
fi

build=${1:-build/release}
command -v nvidia-smi >/dev/null || {
  echo "test_gpu: no NVIDIA driver on this machine" >&2
  exit 1
}
[[ -d $build/lib ]] && export LD_LIBRARY_PATH=$PWD/$build/lib:${LD_LIBRARY_PATH:-}
if ldd "$build/bin/transxssm" | grep -q 'libtorch.* not found'; then
  torch=$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')
  nvidia=$(printf '%s:' "$torch"/../nvidia/*/lib)
  export LD_LIBRARY_PATH=$torch/lib:$nvidia${LD_LIBRARY_PATH:-}
fi

passed=0
failed=()
for source in tests/*/*_cuda.cpp; do
  folder=$(basename "$(dirname "$source")")
  stem=$(basename "$source" .cpp)
  echo "==> $folder/$stem (after $SECONDS s)"
  # The file's name is a tag of its tests: Catch2's option -#.
  if "$build/bin/test_$folder" -# "[#$stem]"; then
    passed=$((passed + 1))
  else
    failed+=("$folder/$stem")
  fi
done
((${#failed[@]} == 0)) || printf 'failed: %s\n' "${failed[@]}"
device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1)
commit=$("$build/bin/transxssm" --version | head -n 1)
echo "$(date -u +%F), $device (driver), $commit: $passed test files passed, ${#failed[@]} failed"
((${#failed[@]} == 0))
