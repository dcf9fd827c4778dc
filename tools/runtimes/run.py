# ruff: noqa: ANN001, ANN201, ANN202, PLC0415, S101 - it is read by whoever has that runtime alone
"""Run one model in one runtime, in an environment that has nothing but that runtime and NumPy.

    python run.py RUNTIME FOLDER RUNS

FOLDER holds ``model.onnx`` and ``feeds.json``: {name, dtype, shape, file} of each input, whose numbers are in
the file as they lie in memory. What comes out is written likewise, with the processor time of each run (ms).
"""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

NUMBERS = {"float": np.float32, "float16": np.float16, "int64": np.int64, "uint8": np.uint8, "bool": np.bool_}


def _provers():
    """Load the file of the package that knows some of the runtimes; it needs nothing but NumPy."""
    file = Path(__file__).parents[2] / "onnx_deconv" / "runtime" / "provers.py"
    spec = importlib.util.spec_from_file_location("provers", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def onnxruntime(model, names, provider="CPUExecutionProvider"):
    """onnxruntime for Python."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=[provider])
    assert provider in session.get_providers(), f"{provider} could not be started"
    return lambda feeds: session.run(names, feeds)


def openvino_provider(model, names):
    """onnxruntime with the OpenVINO provider."""
    return onnxruntime(model, names, "OpenVINOExecutionProvider")


def reference(model, names):
    """The standard's own evaluator."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    return lambda feeds: evaluator.run(names, feeds)


def ncnn(model, places):
    """ncnn, with what its converter makes of one image's model; no batches."""
    import ncnn as runtime

    package = importlib.util.find_spec("pnnx").submodule_search_locations[
        0
    ]  # which itself would import torch
    subprocess.run([Path(package) / "pnnx", model], cwd=Path(model).parent, check=True, capture_output=True)
    made = Path(model).with_suffix("").as_posix() + ".ncnn"
    layers = {line.split()[0] for line in Path(made + ".param").read_text().splitlines()[2:]}
    missing = sorted(name for name in layers if runtime.layer_to_index(name) < 0)
    if missing:
        sys.exit(f"Error: it has no {', '.join(missing)}")
    net = runtime.Net()
    net.opt.num_threads = 1
    assert net.load_param(made + ".param") == net.load_model(made + ".bin") == 0

    def run(feeds):
        with net.create_extractor() as extractor:
            for k, array in enumerate(feeds.values()):
                extractor.input(f"in{k}", runtime.Mat(np.ascontiguousarray(array[0])).clone())
            return [np.array(extractor.extract(f"out{k}")[1])[None] for k in places]

    return run


RUNTIMES = {f.__name__: f for f in (onnxruntime, openvino_provider, reference, ncnn)} | {
    "openvino": lambda model, names: _provers().openvino(model, names, threads=1),
    "tract": lambda model, places: _provers().tract(model, places),
}
BY_PLACE = {"tract", "ncnn"}
"""Those that call outputs by other names than the model."""


def main(runtime, folder, runs):
    """Run, and write down what came out."""
    folder = Path(folder)
    told = json.loads((folder / "feeds.json").read_text())
    feeds = {
        t["name"]: np.frombuffer((folder / t["file"]).read_bytes(), NUMBERS[t["dtype"]]).reshape(t["shape"])
        for t in told["feeds"]
    }
    asked = told["places" if runtime in BY_PLACE else "outputs"]
    run = RUNTIMES[runtime](str(folder / "model.onnx"), asked)
    times = []
    for _ in range(int(runs) + 1):
        start = time.process_time()
        found = run(feeds)
        times.append(1000 * (time.process_time() - start))
    written = []
    for k, (name, given) in enumerate(zip(told["outputs"], found, strict=True)):
        array = np.ascontiguousarray(given)
        kind = next(kind for kind, dtype in NUMBERS.items() if dtype == array.dtype)
        (folder / f"output{k}.bin").write_bytes(array.tobytes())
        written.append({"name": name, "dtype": kind, "shape": array.shape, "file": f"output{k}.bin"})
    (folder / "outputs.json").write_text(json.dumps({"outputs": written, "milliseconds": times[1:]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
