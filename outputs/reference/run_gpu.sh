#!/usr/bin/env bash
# The runs that outputs/reference/ keeps, one after the other, on a machine with a GPU; about 12 minutes on one H100:
#   PHASEBENCH_COMMIT=$(git rev-parse HEAD) bash outputs/reference/run_gpu.sh FOLDER_OF_WIKITEXT RESULTS_FOLDER [OVERRIDES...]
# RUNS="grad speed" makes only those.
# Exits with the worst code of the runs (1: a gate failed, 2: something could not be measured).
set -uo pipefail
wikitext=$1 out=$2 worst=0
shift 2

keep() { # NAME OVERRIDES...: one run, its log, results and configuration
  local name=$1 run="outputs/reference-run/$1" code
  shift
  case " ${RUNS:-seed grad speed speed_training vram vram_8gb} " in *" $name "*) ;; *) return ;; esac
  mkdir -p "$out/$name"
  COLUMNS=120 python3 runner.py "$@" hydra.run.dir="$run" 2>&1 | tee "$out/$name/log.txt"
  code=${PIPESTATUS[0]}
  cp "$run/results.json" "$run/.hydra/config.yaml" "$run/.hydra/overrides.yaml" "$out/$name/"
  if [ "$code" -gt "$worst" ]; then worst=$code; fi
}

keep seed experiment=seed data.path="$wikitext" "$@"
keep grad bench=grad scale=seed "bench.grad.precisions=[fp32,tf32,bf16]" "$@"
keep vram bench=vram scale=seed "$@"
keep vram_8gb bench=vram scale=seed bench.vram.limit_gb=8 bench.vram.find=seq bench.vram.curve_steps=[] bench.vram.curve_seq=[] "$@"
keep speed experiment=speed "$@"
keep speed_training experiment=speed_training "$@"
(cd "$out" && tar czf ../reference.tgz . && mv ../reference.tgz .) # one file, for machines that give back only a few
exit "$worst"
