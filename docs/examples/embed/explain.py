"""Explain a picture with onnxruntime alone: python explain.py FOLDER PICTURE.rgb TARGET OUT."""

import json
import sys
from pathlib import Path

import numpy as np  # comes with onnxruntime
import onnxruntime

folder, picture, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[4])
manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession(folder / manifest["file"], providers=["CPUExecutionProvider"])
pixels = np.fromfile(picture, np.uint8).reshape(1, *manifest["preprocessing"]["size"], 3)
target = np.array([int(sys.argv[3])], np.int64)  # the class to explain in each image, -1 for the strongest
feeds = {manifest["inputs"][0]["name"]: pixels, manifest["target"]["name"]: target}
names = [one["name"] for one in manifest["outputs"]][-4:]  # the model's own outputs come first
reconstruction, heat, _scores, explained = session.run(names, feeds)
# What was explained, said by the graph itself; not every model has labels.
print(explained[0], dict(enumerate(manifest["labels"])).get(explained[0], ""))
(out / "heat.rgb").write_bytes(heat.tobytes())
(out / "reconstruction.f32").write_bytes(reconstruction.tobytes())
