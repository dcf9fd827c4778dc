#!/usr/bin/env bash
# Settle on a machine with an NVIDIA GPU, in at most eight minutes, what cannot be known without one: gpu_day.py says what.
#
#     tools/gpu_day.sh RESULTS.json                 # on the GPU
#     tools/gpu_day.sh RESULTS.json --device cpu --small     # a rehearsal: every line runs once, without a GPU
#
# WHEELS=FOLDER installs what the machine lacks (onnxruntime-gpu, onnx-graphsurgeon, captum, cmap ...) from a folder of
# wheels; ONNXRUNTIME=FOLDER is an unpacked onnxruntime-gpu to put in front of an installed one; PYTHON is the
# interpreter that has torch and torchvision. LIMIT is after how many seconds it is ended whatever hangs (460).
set -euo pipefail
results=$(realpath -m "$1")
shift
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if [ -n "${WHEELS:-}" ]; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl
fi
export PYTHONPATH="${ONNXRUNTIME:+$ONNXRUNTIME:}$site:$PWD${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1
# What hangs is ended; all that was found until then is in the file.
timeout --kill-after=5 "${LIMIT:-460}" "$python" tools/gpu_day.py "$results" "$@"
