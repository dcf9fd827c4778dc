#!/usr/bin/env bash
# Install the runtimes of the examples in docs/examples/embed into a folder outside the repository (500 MB), and run all of them.
#
#     tools/examples.sh FOLDER [more arguments of pytest]
#
# What cannot be had is left out, and the tests say so: Node and g++ from the system, a Chromium on the PATH with
# `pip install playwright`, `pip install "tritonclient[http]"`, and onnxruntime's headers, which Debian has from 13 on (any
# release's headers in FOLDER/include will do that are not newer than the library). Java wants onnxruntime's jar,
# from Maven, as FOLDER/onnxruntime.jar; Rust a cargo project in FOLDER/rust that has the crate `ort`, and builds offline.
set -euo pipefail
folder=$(realpath -m "$1")
shift
cd "$(dirname "$0")/.."
mkdir -p "$folder"
if [ ! -d "$folder/node_modules" ]; then
  # onnxruntime-node's own script would fetch CUDA's libraries from elsewhere.
  npm install --prefix "$folder" --ignore-scripts --no-fund onnxruntime-node onnxruntime-web
fi
if [ ! -d "$folder/include" ] && (cd "$folder" && apt-get download libonnxruntime-dev); then
  dpkg -x "$folder"/libonnxruntime-dev_*.deb "$folder/debian"
  ln -s debian/usr/include/onnxruntime "$folder/include"
fi
ONNX_DECONV_EXAMPLES=$folder python -m pytest -q tests/test_examples.py "$@"
