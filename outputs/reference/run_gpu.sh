#!/usr/bin/env bash
# The runs that outputs/reference/ keeps, one after the other, on a machine with a GPU:
#   PHASEBENCH_COMMIT=$(git rev-parse HEAD) bash outputs/reference/run_gpu.sh FOLDER_OF_WIKITEXT RESULTS_FOLDER [OVERRIDES...]
# Exits with the code of the benchmarks (1: a gate failed). About 8 minutes on one H100.
set -uo pipefail
wikitext=$1 out=$2
shift 2
run="outputs/reference-run"
python3 runner.py experiment=seed data.path="$wikitext" hydra.run.dir="$run" "$@" 2>&1 | tee "$out/log.txt"
code=${PIPESTATUS[0]}
cp "$run/results.json" "$run/.hydra/config.yaml" "$run/.hydra/overrides.yaml" "$out/"
exit "$code"
