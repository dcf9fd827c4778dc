#!/usr/bin/env bash
# Install the runtimes of the examples in docs/examples/embed into a folder outside the repository (1 GB).
#
#     tools/install_examples.sh FOLDER
#
# What cannot be had is left out, and the tests say so: Node, g++, Mono (mcs, mono) and Chromium come from the system.
# Java wants onnxruntime's jar, from Maven, as FOLDER/onnxruntime.jar; Rust a cargo project in FOLDER/rust that has the
# crate `ort`, and builds offline.
set -euo pipefail
folder=$(realpath -m "$1")
mkdir -p "$folder"

if command -v npm > /dev/null; then
  # onnxruntime-node's own script would fetch CUDA's libraries from elsewhere. The third package is onnxruntime for
  # Unity: it has the headers for C++ and the sources of the API for C#.
  [ -d "$folder/node_modules/com.github.asus4.onnxruntime" ] ||
    npm install --prefix "$folder" --ignore-scripts --no-fund --silent \
      onnxruntime-node onnxruntime-web com.github.asus4.onnxruntime@0.4.9
  unity=$folder/node_modules/com.github.asus4.onnxruntime
  ln -sfn "$unity/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers" "$folder/include"

  if command -v mcs > /dev/null && [ ! -f "$folder/Microsoft.ML.OnnxRuntime.dll" ]; then
    # Mono's compiler knows C# 7: newer ways to write the same are replaced.
    rm -rf "$folder/csharp"
    cp -r "$unity/Runtime" "$folder/csharp"
    rm -rf "$folder/csharp/Training"
    find "$folder/csharp" -name '*.cs' -print0 | xargs -0 sed -i -E \
      -e 's/Select\(static /Select(/' \
      -e 's/\b(\w+) is null\b/(object)\1 == null/g' \
      -e 's/([a-z]\w*\.\w+) is not (\w+)/!(\1 is \2)/' \
      -e 's/using var /var /' \
      -e 's/(DisposableList<OrtValue>) (\w+) = new\(/\1 \2 = new \1(/' \
      -e 's/: unmanaged/: struct/g' \
      -e 's/^( +)(\w+)\.Span\[(\w+)\] = (.*);/\1var span = \2.Span; span[\3] = \4;/' \
      -e 's/dimensions\[0\] = dimensions\[1\] = (\w+);/dimensions[0] = \1; dimensions[1] = \1;/'
    find "$folder/csharp" -name '*.cs' -print0 | xargs -0 mcs -nowarn:1-9999 -define:NETSTANDARD2_0 -langversion:latest \
      -unsafe -target:library -out:"$folder/Microsoft.ML.OnnxRuntime.dll"
  fi
fi

# The wheel holds NVIDIA's Triton Inference Server, with its backend for models in Python, which wants an older NumPy.
[ -d "$folder/triton" ] || python3 -m venv "$folder/triton"
"$folder/triton/bin/pip" install --quiet --no-deps --disable-pip-version-check nvidia-pytriton "numpy<2" onnxruntime flatbuffers protobuf ||
  echo "Triton's server cannot be had here"
