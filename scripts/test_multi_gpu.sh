#!/usr/bin/env bash
# On a machine with two or more GPUs: the NCCL tests with two of them, then how training scales from one to two.
#
#   scripts/test_multi_gpu.sh [--scaling-only | --tests-only] [FOLDER]
#
# FOLDER is a build folder, build/release by default, or what test_gpu.sh --pack made of one. The scaling table gives
# tokens/s of models and ZeRO stages on two GPUs over those of GPU 0 alone with the same micro-batch, the share of the
# step in which work waited for communication, and a rank's peak memory with what plan says of it.
# MODELS="transxssm-320m:8 ..." (configuration and micro-batch), STAGES="0 1", REPEATS=12 choose.
set -euo pipefail
cd "$(dirname "$0")/.."

tests=1 scaling=1
case ${1:-} in
  --scaling-only) tests=0 && shift ;;
  --tests-only) scaling=0 && shift ;;
esac
build=${1:-build/release}
gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l)
((gpus >= 2)) || {
  echo "test_multi_gpu: two GPUs are needed, this machine shows $gpus" >&2
  exit 1
}
[[ -d $build/lib ]] && export LD_LIBRARY_PATH=$PWD/$build/lib:${LD_LIBRARY_PATH:-}
if ldd "$build/bin/transxssm" | grep -q 'libtorch.* not found'; then
  torch=$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')
  nvidia=$(printf '%s:' "$torch"/../nvidia/*/lib)
  export LD_LIBRARY_PATH=$torch/lib:$nvidia${LD_LIBRARY_PATH:-}
fi

((tests == 0)) || "$build/bin/test_distributed" -# '[#two_gpus_multi]'
((scaling == 1)) || exit 0

# tokens/s, ms of a step, ms of it that waited, peak memory of a rank and what plan says, in GiB; one document a window
measure() {
  "$build/bin/transxssm" bench step --json --repeats "${REPEATS:-12}" "$@" | python3 -c '
import json, sys
report = json.load(sys.stdin)
row = report["results"][0]
print(row["tokens_per_second"], row["ms"], row["exposed_communication_ms"], report["memory_peak_bytes"] / 2**30,
      report["memory_expected_bytes"] / 2**30)'
}
echo "model stage | 1 GPU tok/s | 2 GPUs tok/s | ratio | ms | waits | GiB 1 -> 2 (planned)"
for entry in ${MODELS:-transxssm-320m:8 transxssm-1.3b:4}; do
  model=${entry%:*} batch=${entry#*:}
  common=(--config "configs/$model.yaml" --set "train.micro_batch_size=$batch")
  read -r alone _ _ memory _ < <(CUDA_VISIBLE_DEVICES=0 measure "${common[@]}" --set train.device=cuda)
  for stage in ${STAGES:-0 1}; do
    read -r both ms waits memory_both planned < <(measure "${common[@]}" --gpus 2 --set "parallel.zero_stage=$stage")
    awk -v m="$model" -v s="$stage" -v a="$alone" -v b="$both" -v t="$ms" -v w="$waits" -v g="$memory" -v h="$memory_both" -v p="$planned" \
      'BEGIN { printf "%s %s | %.0f | %.0f | %.3f | %.1f | %.1f %% | %.1f -> %.1f (%.1f)\n", m, s, a, b, b / a, t, 100 * w / t, g, h, p }'
  done
done
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | sort | uniq -c
"$build/bin/transxssm" --version | head -n 1
