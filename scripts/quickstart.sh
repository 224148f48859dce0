#!/usr/bin/env bash
# From a fresh clone to a trained TransXSSM on the CPU: installs what is missing, builds, trains a tokenizer and a small
# model on the text in data/, stops half-way and resumes, and prints a sample. Started again, it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }

build=build/$TRANSXSSM_PRESET
program=$build/bin/transxssm
config=configs/quickstart.yaml
run=runs/quickstart
field() { awk -v key="$1:" '$1 == key {print $2; exit}' "$config"; }

say "Building $program"
cmake --preset "$TRANSXSSM_PRESET" >/dev/null
cmake --build --preset "$TRANSXSSM_PRESET" --target transxssm
SECONDS=0

tokenizer=$run/tokenizer/tokenizer
if [[ ! -f $tokenizer.model ]]; then
  say "Training a tokenizer on data/train.jsonl.zst"
  mkdir -p "$(dirname "$tokenizer")"
  "$program" tokenizer train --input data/train.jsonl.zst --output "$tokenizer" --vocab-size "$(field vocab_size)"
fi
say "Turning text into tokens"
prepare() { "$program" data prepare --input "data/$1.jsonl.zst" --tokenizer "$tokenizer.model" --output "$run/$2"; }
prepare train data  # the shards are in data/train
prepare validation heldout

last_logged_step() {
  local line
  line=$(tail -n 1 "$run/metrics.jsonl" 2>/dev/null) || true
  [[ $line =~ \"step\":\ *([0-9]+) ]] && echo "${BASH_REMATCH[1]}" || echo 0
}
finished() { grep -q '"finished"' "$run/status.json" 2>/dev/null; }

# Returns when the trainer has finished, or has saved and stopped. A Ctrl-C reaches the trainer too, and ends the script.
train() {
  local status=0
  "$program" train --config "$config" --set train.device=cpu || status=$?
  if [[ -n ${interrupted:-} ]]; then
    echo "Stopped. The same command goes on from here."
    exit 130
  fi
  ((status == 0 || status == $(field stop_exit_code))) || exit "$status"
}
trap 'interrupted=yes' INT

steps=$(field max_steps)
half=$((steps / 2))
if ! finished && (($(last_logged_step) < half)); then
  say "Training $config; at step $half of $steps it gets the signal of a Ctrl-C, on purpose"
  (
    while (($(last_logged_step) < half)); do
      sleep 0.5
      kill -0 $$ || exit  # the script is gone
    done
    kill -INT "$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$run/status.json")"
  ) 2>/dev/null &
  watcher=$!
  train
  kill "$watcher" 2>/dev/null || true
fi
if ! finished; then
  say "The same command again: it resumes"
  train
  finished || exit "$(field stop_exit_code)"
fi

say "Trained. A sample:"
"$program" generate --checkpoint "$run" --prompt "“My dear Holmes,” said I, “" --max-new-tokens 120 --seed 1
say "Done in $SECONDS seconds after the build. Try next:"
cat <<EOF
  $program generate --checkpoint $run --prompt "Once upon a time" --temperature 0.7
  $program train --config $config --set train.run_dir=runs/longer --set train.max_steps=$((4 * steps))
  $program checkpoint list $run
EOF
