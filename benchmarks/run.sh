#!/bin/sh
# Every workload as a run of this repository's own project: compare them later with `mlops runs`.
set -eu
cd "$(dirname "$0")/.."
for script in benchmarks/*.py; do
    name=$(basename "$script" .py)
    echo "== $name"
    mlops run --name "bench-$name" python "$script"
done
mlops runs --limit 10
