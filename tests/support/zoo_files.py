"""Where the real models and photographs are; tests that need one skip, saying so, where it is not there."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
ZOO = Path(os.environ.get("ONNX_DECONV_ZOO", ROOT.parent / "shared" / "zoo"))
