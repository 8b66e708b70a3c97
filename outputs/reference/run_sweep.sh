#!/usr/bin/env bash
# One set of trained weights of experiment=wikitext2_word, its flow integrated by six integrators at four step sizes
# (conf/sweep/discretisation.yaml): perplexity and drift of each, with a report.
#   export PHASEBENCH_COMMIT=$(git rev-parse HEAD)
#   bash outputs/reference/run_sweep.sh FOLDER_OF_WIKITEXT RESULTS_FOLDER CHECKPOINT [OVERRIDES...]
# CHECKPOINT: Stage 2's weights of that experiment, as run_training.sh leaves them in outputs/cache/weights; "" takes them
# from there, or trains them (minutes). The test split is scored without overlap of contexts, in TF32, to fit the time.
# Estimated for one H100 with given weights: 24 points in one process, 60 to 90 s in all. Run again it does what is missing.
# Kept are the points' results.json (each with its resolved configuration; two series a layer that no report reads are left
# out), the command, the log, tables and plots (PNG): about 1.4 MB, and sweep.tgz with all of it. Exits with the sweep's
# code: 1 is usual, since coarse steps miss the gate on drift; 2: not measured.
set -uo pipefail
wikitext=$1 out=$2 checkpoint=$3
shift 3
sweep=outputs/sweeps/discretisation
command=(python3 runner.py -m +sweep=discretisation experiment=wikitext2_word sweep_name=discretisation
  "data.path=$wikitext" "model.checkpoint=${checkpoint:-null}" bench.ppl.stride=512 bench.ppl.precision=tf32
  bench.energy.batch=2 "$@")

mkdir -p "$out/plots"
printf '%q ' "${command[@]}" > "$out/command.txt"
COLUMNS=120 "${command[@]}" 2>&1 | tee "$out/log.txt"
code=${PIPESTATUS[0]}
if [ ! -f "$sweep/report.html" ]; then exit "$code"; fi
python3 - "$sweep" "$out" << 'END' # the points of this grid, not those of an earlier one
import json, pathlib, sys
from phasebench.jsonfile import dumps, write_atomic
sweep, out = map(pathlib.Path, sys.argv[1:])
for point in json.loads((sweep / "sweep.json").read_text())["points"]:
    results = sweep / point["folder"] / "results.json"
    if not results.exists(): # sweep.json and the report say why
        continue
    found = json.loads(results.read_text())
    for layer in found["benches"]["energy"]["details"].get("layers", []):
        layer.pop("mean_drift_at_step", None)
        layer.pop("max_q_at_step", None)
    (out / point["folder"]).mkdir(exist_ok=True)
    write_atomic(out / point["folder"] / "results.json", dumps(found) + "\n")
END
cp "$sweep"/{sweep.json,report.html,table.csv,table.md,table.tex} "$out/"
find "$sweep/plots" -name '*.png' -exec cp {} "$out/plots/" \;
(cd "$out" && tar czf ../sweep.tgz . && mv ../sweep.tgz .) # one file, for machines that give back only a few
exit "$code"
