"""Who is measured by ``tools/bench.py``: onnx_deconv's ways, and what else there is for the same picture.

Each contender is made in a process of its own by a function that takes a :class:`Case` and returns what is
timed. Libraries are imported where they are used: a contender whose library is missing is
reported, the others are measured.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {
    "squeezenet1_1": 224, "vgg16": 224, "resnet50": 224, "densenet121": 224, "inception_v3": 299,
    "mobilenet_v2": 224, "efficientnet_b0": 224,
}  # fmt: skip
"""torchvision's networks that are measured, and the size of their pictures."""

KERAS = {"keras_resnet50": "ResNet50", "keras_mobilenet_v2": "MobileNetV2"}
"""Networks of keras.applications, of 224×224."""

PLAIN, EXPLAIN, CAPTUM = "plain forward", "explain graph", "Captum Deconvolution"
RISE, XPLIQUE = "DIANNA's RISE", "Xplique DeconvNet"

Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """What all contenders of one measurement have in common."""

    net: str
    batch: int
    device: str
    threads: int
    path: Path
    """The network as an ONNX file, input ``x``, output ``y``."""
    tf32: bool = True
    """Whether torch may round factors to TF32 on a GPU, as onnxruntime does unless told otherwise."""

    @property
    def x(self) -> np.ndarray:
        """The images, float32 (N, 3, H, W), of a Keras network (N, H, W, 3)."""
        size = SIZES.get(self.net, 224)
        shape = (size, size, 3) if self.net in KERAS else (3, size, size)
        return np.random.default_rng(0).standard_normal((self.batch, *shape)).astype(np.float32)


CONTENDERS: dict[str, Callable[[Case], Run]] = {}
FRAMEWORKS: dict[str, str] = {}
"""Of contenders that explain the networks of one framework alone: which."""

Maker = Callable[[Case], Run]


def contender(name: str, framework: str = "") -> Callable[[Maker], Maker]:
    """Register what is measured under a name."""

    def register(make: Maker) -> Maker:
        CONTENDERS[name] = make
        if framework:
            FRAMEWORKS[name] = framework
        return make

    return register


def contenders(net: str) -> list[str]:
    """List who can explain a network."""
    framework = "keras" if net in KERAS else "torch"
    return [name for name in CONTENDERS if FRAMEWORKS.get(name, framework) == framework]


def limit(threads: int) -> None:
    """Have onnxruntime and torch, whichever a contender uses, run in so many threads."""
    import onnxruntime  # noqa: PLC0415

    make = onnxruntime.SessionOptions

    def limited() -> Any:
        options = make()
        options.intra_op_num_threads = threads
        return options

    onnxruntime.SessionOptions = limited


@contender(PLAIN)
def plain(case: Case) -> Run:
    """The user's model, unchanged."""
    from onnx_deconv import load  # noqa: PLC0415
    from onnx_deconv.runtime import Session, numpy_of  # noqa: PLC0415

    model = load(case.path)
    session, feeds = Session(model.proto, model.folder, case.device), _feeds(case)
    return lambda: numpy_of(session.run(feeds)[model.outputs[0]])


def _feeds(case: Case) -> dict[str, np.ndarray]:
    from onnx_deconv import load  # noqa: PLC0415

    return {load(case.path).proto.graph.input[0].name: case.x}


def _pair(case: Case) -> Any:
    from onnx_deconv import compile_pair, load  # noqa: PLC0415

    return compile_pair(load(case.path))


@contender("forward with switches")
def with_switches(case: Case) -> Run:
    """A pair's forward model."""
    from onnx_deconv.runtime import PairSession  # noqa: PLC0415

    session, feeds = PairSession(_pair(case), case.device), _feeds(case)
    return lambda: session.run_forward(feeds)


@contender("pair")
def pair(case: Case) -> Run:
    """Both models of a pair, one after the other."""
    from onnx_deconv.runtime import PairSession, numpy_of  # noqa: PLC0415

    made, feeds = _pair(case), _feeds(case)
    session = PairSession(made, case.device)

    def both() -> np.ndarray:
        values = session.run_forward(feeds)
        scores = numpy_of(values[made.manifest["explained"]["value"]])
        seed = np.zeros_like(scores)
        seed[np.arange(len(scores)), scores.argmax(1)] = 1
        return session.run_deconv(values, seed)["reconstruction"]

    return both


@contender(EXPLAIN)
def explain(case: Case) -> Run:
    """The explain graph, with the device's passes."""
    from onnx_deconv.compiler.passes import EXPLAIN as PASSES  # noqa: PLC0415

    return _explain(case, PASSES[case.device])


@contender("explain graph, not optimised")
def unoptimised(case: Case) -> Run:
    """The explain graph as it is put together."""
    return _explain(case, ())


def _explain(case: Case, passes: tuple[str, ...]) -> Run:
    from onnx_deconv import explain_graph  # noqa: PLC0415
    from onnx_deconv.compiler.explain_manifest import own_top  # noqa: PLC0415
    from onnx_deconv.runtime import Session, numpy_of  # noqa: PLC0415

    graph = explain_graph(_pair(case), passes=passes)
    feeds = _feeds(case) | own_top(graph.manifest)
    session = Session(graph.proto, graph.folder, case.device)
    return lambda: numpy_of(session.run(feeds)["reconstruction"])


@contender(CAPTUM, "torch")
def captum(case: Case) -> Run:
    """Captum's deconvolution, eager."""
    from captum.attr import Deconvolution  # noqa: PLC0415

    net, x, top = _torch(case)
    hooked = Deconvolution(net)
    return lambda: hooked.attribute(x, target=top).detach().cpu().numpy()


@contender(f"{CAPTUM}, compiled", "torch")
def compiled(case: Case) -> Run:
    """Captum's deconvolution of a network that torch compiled."""
    import torch  # noqa: PLC0415
    from captum.attr import Deconvolution  # noqa: PLC0415

    net, x, top = _torch(case)
    hooked = Deconvolution(torch.compile(net))
    return lambda: hooked.attribute(x, target=top).detach().cpu().numpy()


@contender("autograd gradient", "torch")
def gradient(case: Case) -> Run:
    """The plain gradient by torch's autograd."""
    import torch  # noqa: PLC0415

    net, x, _ = _torch(case)

    def run() -> np.ndarray:
        image = x.clone().requires_grad_()
        scores = net(image)
        score = scores.gather(1, scores.argmax(1, keepdim=True)).sum()
        return torch.autograd.grad(score, image)[0].cpu().numpy()

    return run


@contender(RISE, "torch")
def rise(case: Case) -> Run:
    """DIANNA's black-box sampler on the ONNX file, its defaults (1000 masks), for the first image."""
    import contextlib  # noqa: PLC0415
    import io  # noqa: PLC0415

    import dianna  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    session, x = onnxruntime.InferenceSession(case.path), case.x
    top = int(session.run(None, {"x": x[:1]})[0][0].argmax())
    axes = ["channels", "height", "width"]

    def run() -> np.ndarray:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            found = dianna.explain_image(str(case.path), x[0], method="RISE", labels=[top], axis_labels=axes)
        return found[0]

    return run


@contender(XPLIQUE, "keras")
def xplique(case: Case) -> Run:
    """Xplique's deconvolution of the network from which the file was made."""
    import tensorflow as tf  # noqa: PLC0415
    from xplique.attributions import DeconvNet  # noqa: PLC0415

    tf.config.threading.set_intra_op_parallelism_threads(case.threads)
    net, x = keras_network(case.net), case.x
    scores = net.predict_on_batch(x)
    targets = np.eye(scores.shape[1], dtype=np.float32)[scores.argmax(1)]
    explainer = DeconvNet(net, batch_size=len(x), reducer=None)
    return lambda: explainer(x, targets).numpy()


def _torch(case: Case) -> tuple[Any, Any, Any]:
    """Make the network, the images and the top classes; no ReLU in place, which Captum's hooks refuse."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(case.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.tf32
    net = copy.deepcopy(network(case.net)).to(case.device)
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    x = torch.from_numpy(case.x).to(case.device)
    with torch.no_grad():
        return net, x, net(x).argmax(1)


def torchvision_models() -> Any:
    """Import torchvision's models, also where its compiled operators (which they do not use) are missing."""
    import torch  # noqa: PLC0415

    register = torch.library.register_fake
    torch.library.register_fake = lambda *_, **__: lambda function: function
    try:
        import torchvision.models  # noqa: PLC0415
    finally:
        torch.library.register_fake = register
    return torchvision.models


def network(name: str) -> Any:
    """Make one of torchvision's networks with random weights."""
    import torch  # noqa: PLC0415

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    more = {"init_weights": True, "aux_logits": True} if name == "inception_v3" else {}
    return getattr(torchvision_models(), name)(weights=None, **more).eval()


def keras_network(name: str) -> Any:
    """Make a network of keras.applications with random weights, without its softmax."""
    import keras  # noqa: PLC0415

    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, KERAS[name])
    net = make(weights=None, input_shape=(224, 224, 3), classifier_activation=None)
    net(np.zeros((1, 224, 224, 3), np.float32))  # one that never ran is not exported
    return net


def exported(name: str, path: Path) -> Path:
    """Export one of the networks to ONNX, a Keras network without its softmax."""
    if name in KERAS:
        keras_network(name).export(path, format="onnx", verbose=False)
        return path
    import torch  # noqa: PLC0415

    net, size = network(name), SIZES[name]
    axes = {"x": {0: "N"}, "y": {0: "N"}}
    torch.onnx.export(
        net, torch.zeros(2, 3, size, size), path, dynamo=False, opset_version=17,
        input_names=["x"], output_names=["y"], dynamic_axes=axes,
    )  # fmt: skip
    return path
