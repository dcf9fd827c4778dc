#!/usr/bin/env bash
# Install the runtimes of the examples in docs/examples/embed into a folder outside the repository, and run all of them.
#
#     tools/examples.sh FOLDER [more arguments of pytest]
#
# What cannot be had is left out, and the tests say so; see tools/install_examples.sh.
set -euo pipefail
folder=$(realpath -m "$1")
shift
cd "$(dirname "$0")/.."
tools/install_examples.sh "$folder"
ONNX_DECONV_EXAMPLES=$folder python -m pytest -q tests/test_examples.py "$@"
