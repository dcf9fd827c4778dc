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

PLAIN, EXPLAIN, CAPTUM = "plain forward", "explain graph", "Captum Deconvolution"

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

    @property
    def x(self) -> np.ndarray:
        """The images, float32 (N, 3, H, W)."""
        size = SIZES[self.net]
        return np.random.default_rng(0).standard_normal((self.batch, 3, size, size)).astype(np.float32)


CONTENDERS: dict[str, Callable[[Case], Run]] = {}


def contender(name: str) -> Callable[[Callable[[Case], Run]], Callable[[Case], Run]]:
    """Register what is measured under a name."""

    def register(make: Callable[[Case], Run]) -> Callable[[Case], Run]:
        CONTENDERS[name] = make
        return make

    return register


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

    model, x = load(case.path), case.x
    session = Session(model.proto, model.folder, case.device)
    return lambda: numpy_of(session.run({"x": x})["y"])


def _pair(case: Case) -> Any:
    from onnx_deconv import compile_pair, load  # noqa: PLC0415

    return compile_pair(load(case.path))


@contender("forward with switches")
def with_switches(case: Case) -> Run:
    """A pair's forward model."""
    from onnx_deconv.runtime import PairSession  # noqa: PLC0415

    session, x = PairSession(_pair(case), case.device), case.x
    return lambda: session.run_forward({"x": x})


@contender("pair")
def pair(case: Case) -> Run:
    """Both models of a pair, one after the other."""
    from onnx_deconv.runtime import PairSession, numpy_of  # noqa: PLC0415

    session, x = PairSession(_pair(case), case.device), case.x

    def both() -> np.ndarray:
        values = session.run_forward({"x": x})
        scores = numpy_of(values["y"])
        seed = np.zeros_like(scores)
        seed[np.arange(len(x)), scores.argmax(1)] = 1
        return session.run_deconv(values, seed)["reconstruction"]

    return both


@contender(EXPLAIN)
def explain(case: Case) -> Run:
    """The explain graph, with the device's lowerings."""
    from onnx_deconv.lower import EXPLAIN as LOWERINGS  # noqa: PLC0415

    return _explain(case, LOWERINGS[case.device])


@contender("explain graph, not lowered")
def unlowered(case: Case) -> Run:
    """The explain graph as it is put together."""
    return _explain(case, ())


def _explain(case: Case, passes: tuple[str, ...]) -> Run:
    from onnx_deconv import explain_graph  # noqa: PLC0415
    from onnx_deconv.runtime import Session, numpy_of  # noqa: PLC0415

    graph, x = explain_graph(_pair(case), lowerings=passes), case.x
    session = Session(graph.proto, graph.folder, case.device)
    return lambda: numpy_of(session.run({"x": x})["reconstruction"])


@contender(CAPTUM)
def captum(case: Case) -> Run:
    """Captum's deconvolution, eager."""
    from captum.attr import Deconvolution  # noqa: PLC0415

    net, x, top = _torch(case)
    hooked = Deconvolution(net)
    return lambda: hooked.attribute(x, target=top).detach().cpu().numpy()


@contender(f"{CAPTUM}, compiled")
def compiled(case: Case) -> Run:
    """Captum's deconvolution of a network that torch compiled."""
    import torch  # noqa: PLC0415
    from captum.attr import Deconvolution  # noqa: PLC0415

    net, x, top = _torch(case)
    hooked = Deconvolution(torch.compile(net))
    return lambda: hooked.attribute(x, target=top).detach().cpu().numpy()


@contender("autograd gradient")
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


@contender("a tenth of RISE's 1000 masks")
def sampler(case: Case) -> Run:
    """RISE on the plain model (Petsiuk et al. 2018; DIANNA's default is 1000 masks), as DIANNA runs it.

    For the time alone: masks are drawn beforehand, and of the model's runs one batch of 100 is timed.
    """
    from onnx_deconv import load  # noqa: PLC0415
    from onnx_deconv.runtime import Session, numpy_of  # noqa: PLC0415

    model, x = load(case.path), case.x
    session, size = Session(model.proto, model.folder, case.device), x.shape[-1]
    drawn = np.random.default_rng(0).random((100, 1, size, size), np.float32)

    def tenth() -> float:
        scores = numpy_of(session.run({"x": drawn * x[:1]})["y"])
        return float((scores[:, 0, None, None] * drawn[:, 0]).sum())

    return tenth


def _torch(case: Case) -> tuple[Any, Any, Any]:
    """Make the network, the images and the top classes; no ReLU in place, which Captum's hooks refuse."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(case.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # as onnxruntime does
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


def exported(name: str, path: Path) -> Path:
    """Export one of the networks to ONNX."""
    import torch  # noqa: PLC0415

    net, size = network(name), SIZES[name]
    axes = {"x": {0: "N"}, "y": {0: "N"}}
    torch.onnx.export(
        net, torch.zeros(2, 3, size, size), path, dynamo=False, opset_version=17,
        input_names=["x"], output_names=["y"], dynamic_axes=axes,
    )  # fmt: skip
    return path
