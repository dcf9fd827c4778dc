import csv
from pathlib import Path

import onnx_deconv

paths = sorted(Path("photos").iterdir())
explainer = onnx_deconv.Explainer("model.onnx", "auto")
with Path("summary.csv").open("w", newline="") as file:
    for path, found in zip(paths, explainer.explain(iter(paths)), strict=True):
        found.overlay.save(f"{path.stem}-overlay.png")
        csv.writer(file).writerow([path, found.channel, found.label, found.score, found.note])
