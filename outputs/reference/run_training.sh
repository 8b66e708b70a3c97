#!/usr/bin/env bash
# Trains and measures experiment=wikitext2_word on a machine with a GPU, in as many calls as it takes:
#   PHASEBENCH_COMMIT=$(git rev-parse HEAD) bash outputs/reference/run_training.sh FOLDER_OF_WIKITEXT RESULTS_FOLDER "0 1 2" BUDGET_S JOBS [OVERRIDES...]
# First the trainings, JOBS at a time, seed after seed, until BUDGET_S seconds have passed; where some are left it exits
# with 3, and the same call goes on from their last checkpoints (outputs/cache and outputs/training-run must still be
# there). Then, with all weights in the cache, everything that needs them, into RESULTS_FOLDER: perplexities, leak test,
# drift, integrators side by side (training/), and 10,000 steps (long/). Weights stay behind. Otherwise it exits with the
# worst code of the runs (1: a gate failed, 2: something could not be measured).
# On one H100, two JOBS: the trainings take 6.5 minutes, training/ 2, long/ 1.7.
# A measuring run that would start later than MEASURE_BEFORE seconds (if not set, BUDGET_S) is left to the next call (exit
# 3); one that has ended with the same overrides and PHASEBENCH_COMMIT is not repeated.
set -uo pipefail
wikitext=$1 out=$2 seeds=$3 budget=$4 jobs=$5 worst=0
shift 5
here=$(cd "$(dirname "$0")" && pwd)
work=outputs/training-run
list="[${seeds// /,}]"
experiment=(experiment=wikitext2_word "data.path=$wikitext" "$@")

mkdir -p "$work" "$out"
trap '(cd "$out" && tar czf ../training.tgz . && mv ../training.tgz .)' EXIT # one file, for machines that give back only a few
: > "$work/lines.txt"
for seed in $seeds; do
  for model in stage2 stage1 gpt; do
    echo "model=$model bench.ppl.seeds=[$seed]" >> "$work/lines.txt"
  done
done
python3 "$here/tune.py" "$work/lines.txt" "$work/models" --jobs "$jobs" --budget "$budget" -- "${experiment[@]}" \
  bench=ppl bench.ppl.baseline=null bench.ppl.reference=null bench.ppl.split=validation bench.ppl.max_batches=1 \
  bench.ppl.leak_test=false bench.ppl.upper_target=null bench.ppl.max_ppl=null | tee "$out/trainings.txt"
code=${PIPESTATUS[0]}
if [ "$code" -ne 0 ]; then exit "$code"; fi

keep() { # NAME OVERRIDES...: one run, its log, results and configuration; not again if it has ended at this commit
  local name=$1 run="$work/$1" said code file
  shift
  said="${PHASEBENCH_COMMIT:-} $*"
  mkdir -p "$out/$name"
  if [ "$(cat "$run/command.txt" 2> /dev/null)" = "$said" ]; then
    code=$(cat "$run/exit_code")
  else
    if [ "$SECONDS" -gt "${MEASURE_BEFORE:-$budget}" ]; then exit 3; fi # too late to measure in this call
    rm -rf "$run"
    mkdir -p "$run"
    COLUMNS=120 python3 runner.py "$@" hydra.run.dir="$run" 2>&1 | tee "$run/log.txt"
    code=${PIPESTATUS[0]}
    echo "$code" > "$run/exit_code"
    if [ "$code" -le 1 ]; then echo "$said" > "$run/command.txt"; fi # what was not measured, or was killed, is run again
  fi
  for file in "$run"/{log.txt,results.json,.hydra/config.yaml,.hydra/overrides.yaml}; do
    if [ -e "$file" ]; then cp "$file" "$out/$name/"; fi
  done
  if [ "$code" -gt "$worst" ]; then worst=$code; fi
}

keep training "${experiment[@]}" "bench.ppl.seeds=$list" "bench.energy.seeds=$list"
keep long "${experiment[@]/#experiment=wikitext2_word/experiment=wikitext2_word_long}" "bench.energy.seeds=$list"
exit "$worst"
