"""Train the demonstration network ``models/demo.onnx`` from scratch.

The network is a plain, fully convolutional classifier of 100 Tiny-ImageNet classes in the manner
of VGG and Darknet: nothing but convolutions, ReLUs and 2x2 max-poolings, a 1x1 convolution that
gives one map per class, and global average pooling.  Batch normalisation is used in training and
folded into the convolutions when the model is written, so that the file holds only ``Conv``,
``Relu``, ``MaxPool``, ``GlobalAveragePool``, ``Flatten`` and ``Softmax``.

Usage::

    python tools/train_demo.py tiny-imagenet-100.zip -o models/demo.onnx

The archive holds ``classes.tsv`` (WordNet id, tab, name; the order gives the class index) and the
64x64 pictures ``train/WNID/*.JPEG`` and ``val/WNID/*.JPEG``.  Training is saved after every epoch
and taken up again with ``--resume``; ``--evaluate`` only measures an existing model file.
"""

from __future__ import annotations

import copy
import io
import json
import math
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SIDE = 64
OPSET = 17
IR_VERSION = 8
TOLERANCE = 1e-4
DOC_STRING = (
    "Plain convolutional classifier of 100 Tiny-ImageNet classes, the demonstration model of "
    "onnx_deconv. Trained from scratch by tools/train_demo.py. "
    "Author: the onnx_deconv authors. Licence of the weights: that of onnx_deconv. "
    "Training data: 100 classes of Tiny-ImageNet (ImageNet terms of access: non-commercial "
    "research and education); no picture of it is part of this file. "
    "Input: RGB, value/255, less mean (0.485, 0.456, 0.406), over std (0.229, 0.224, 0.225); "
    "any height and width from 8 up."
)


class Layer(NamedTuple):
    """One convolution of the network.

    Attributes
    ----------
    name : str
        Its name, less the leading ``conv``.
    width : int
        Output channels.
    kernel : int
        Side of the (odd, square) kernel; the padding keeps the size.
    pool : str
        Number of the 2x2 max-pooling that follows the ReLU, or an empty string.
    """

    name: str
    width: int
    kernel: int = 3
    pool: str = ""


LAYERS = (
    Layer("1", 32, kernel=5, pool="1"),
    Layer("2_1", 64),
    Layer("2_2", 64, pool="2"),
    Layer("3_1", 128),
    Layer("3_2", 128),
    Layer("3_3", 128, pool="3"),
    Layer("4_1", 256),
    Layer("4_2", 128, kernel=1),
    Layer("4_3", 256),
    Layer("4_4", 128, kernel=1),
    Layer("4_5", 256),
)
CLASSIFIER = "conv5"


class Phase(NamedTuple):
    """A stretch of the training.

    Attributes
    ----------
    until : float
        Where it ends, as a fraction of the training.
    size : int
        Side of the crops, in pixels.
    area : tuple of float
        Least and greatest area of a crop, as a fraction of the picture's; what lies outside the
        picture is filled in by reflection.
    mix : float
        Probability that a batch is mixed by CutMix, and that a picture gets a part erased.
    """

    until: float
    size: int
    area: tuple[float, float]
    mix: float


PHASES = (
    Phase(0.30, 40, (0.25, 1.10), 0.25),
    Phase(0.70, 48, (0.30, 1.10), 0.00),
    Phase(0.90, 56, (0.25, 1.10), 0.00),
    Phase(1.00, 64, (0.45, 1.10), 0.00),
)


@dataclass(frozen=True)
class Pictures:
    """The data set, in memory.

    Attributes
    ----------
    names : list of str
        Class names in class order.
    train, val : tuple of Tensor
        Pictures ``uint8[N, 3, 64, 64]`` and class indices ``int64[N]``.
    """

    names: list[str]
    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]


class Block(nn.Module):
    """A convolution, batch normalisation, and a ReLU, with a pooling or without.

    The pooling comes before the ReLU, which gives the same values as after it with a quarter of
    the work; the exported graph has them in the usual order.

    Parameters
    ----------
    inputs : int
        Input channels.
    layer : Layer
        The rest.
    """

    def __init__(self, inputs: int, layer: Layer) -> None:
        super().__init__()
        kernel = layer.kernel
        self.layer = layer
        self.conv = nn.Conv2d(inputs, layer.width, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(layer.width)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps of the maps before."""
        x = self.norm(self.conv(x))
        if self.layer.pool:
            x = functional.max_pool2d(x, 2)
        return functional.relu(x, inplace=True)

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weight and bias of the convolution with the normalisation folded in."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None  # noqa: S101
        assert variance is not None  # noqa: S101
        scale = self.norm.weight.double() / (variance.double() + self.norm.eps).sqrt()
        weight = self.conv.weight.double() * scale[:, None, None, None]
        return _array(weight), _array(self.norm.bias.double() - mean.double() * scale)


class Net(nn.Module):
    """The network.

    Parameters
    ----------
    classes : int
        Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = [3, *(layer.width for layer in LAYERS)]
        self.blocks = [Block(*pair) for pair in zip(widths, LAYERS, strict=False)]
        self.features = nn.Sequential(*self.blocks)
        self.classifier = nn.Conv2d(widths[-1], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``[N, classes]`` of the pictures ``[N, 3, H, W]``."""
        maps: Tensor = self.classifier(self.features(x))
        return maps.float().mean((2, 3))

    def folded(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield weight and bias of each convolution, with the normalisation folded in."""
        for block in self.blocks:
            yield block.folded()
        bias = self.classifier.bias
        assert bias is not None  # noqa: S101
        yield _array(self.classifier.weight), _array(bias)


def _array(tensor: Tensor) -> np.ndarray:
    """Return a contiguous float32 array of a tensor's values."""
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


def read_pictures(archive: Path) -> Pictures:
    """Decode the whole archive.

    Parameters
    ----------
    archive : Path
        The zip file.

    Returns
    -------
    Pictures
        Class names, training and validation pictures, the latter sorted by file name.
    """
    with zipfile.ZipFile(archive) as file:
        rows = [line.split("\t") for line in file.read("classes.tsv").decode().splitlines()]
        index = {row[0]: number for number, row in enumerate(rows)}
        members = sorted(name for name in file.namelist() if name.endswith(".JPEG"))

        def part(folder: str) -> tuple[Tensor, Tensor]:
            chosen = [name for name in members if name.startswith(f"{folder}/")]
            pixels = np.empty((len(chosen), 3, SIDE, SIDE), np.uint8)
            for number, name in enumerate(chosen):
                with Image.open(io.BytesIO(file.read(name))) as image:
                    pixels[number] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            labels = [index[name.split("/")[1]] for name in chosen]
            return torch.from_numpy(pixels), torch.tensor(labels)

        return Pictures([row[1] for row in rows], part("train"), part("val"))


def normalise(x: Tensor) -> Tensor:
    """Return pictures with values in 0..1 as the network takes them."""
    mean = torch.tensor(MEAN, device=x.device)[:, None, None]
    std = torch.tensor(STD, device=x.device)[:, None, None]
    return (x - mean) / std


class Augment:
    """Random crops, flips, colours, erasings and mixtures of whole batches.

    Parameters
    ----------
    generator : torch.Generator
        Source of all random numbers.
    device : torch.device
        Where the pictures are.
    """

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self.generator = generator
        self.device = device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return uniform random numbers of the given shape."""
        numbers = torch.rand(shape, generator=self.generator)
        return (low + (high - low) * numbers).to(self.device)

    def crop(self, x: Tensor, phase: Phase) -> Tensor:
        """Return a random, randomly flipped crop of each picture ``float[N, 3, 64, 64]``."""
        count = len(x)
        side = self.uniform(*phase.area, count).sqrt()
        aspect = self.uniform(-0.15, 0.15, count).exp()
        width, height = side * aspect, side / aspect
        theta = torch.zeros(count, 2, 3, device=self.device)
        theta[:, 0, 0] = width * self.uniform(-1, 1, count).sign()
        theta[:, 1, 1] = height
        theta[:, 0, 2] = self.uniform(-1, 1, count) * (1 - width).abs()
        theta[:, 1, 2] = self.uniform(-1, 1, count) * (1 - height).abs()
        grid = functional.affine_grid(theta, [count, 3, phase.size, phase.size], False)
        return functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    def colour(self, x: Tensor) -> Tensor:
        """Return the pictures with brightness, contrast and saturation changed."""
        count = len(x)
        grey = x.mean(1, keepdim=True)
        x = torch.lerp(grey, x, self.uniform(0.6, 1.4, count, 1, 1, 1))
        centre = grey.mean((2, 3), keepdim=True)
        x = torch.lerp(centre, x, self.uniform(0.7, 1.3, count, 1, 1, 1))
        return (x * self.uniform(0.7, 1.3, count, 1, 1, 1)).clamp_(0, 1)

    def boxes(self, share: Tensor, size: int) -> Tensor:
        """Return masks ``bool[N, 1, size, size]`` of random boxes of the given shares of area."""
        count = len(share)
        half = share.sqrt() / 2
        along = (torch.arange(size, device=self.device) + 0.5) / size
        masks = [(along - self.uniform(0, 1, count)[:, None]).abs() < half[:, None] for _ in range(2)]
        return (masks[0][:, :, None] & masks[1][:, None, :])[:, None]

    def __call__(self, x: Tensor, y: Tensor, classes: int, phase: Phase) -> tuple[Tensor, Tensor]:
        """Return network inputs and target distributions of a batch.

        Parameters
        ----------
        x : Tensor
            Pictures ``uint8[N, 3, 64, 64]``.
        y : Tensor
            Class indices ``int64[N]``.
        classes : int
            Number of classes.
        phase : Phase
            Size and strength.

        Returns
        -------
        tuple of Tensor
            Inputs ``float32[N, 3, size, size]`` and targets ``float32[N, classes]``.
        """
        count = len(x)
        x = normalise(self.colour(self.crop(x.float() / 255, phase)))
        target = functional.one_hot(y, classes).float()
        if phase.mix:
            chosen = self.uniform(0, 1, count) < phase.mix
            erased = self.boxes(self.uniform(0.05, 0.25, count) * chosen, phase.size)
            x = x.masked_fill(erased, 0.0)
            if self.uniform(0, 1, 1).item() < phase.mix:
                box = self.boxes(self.uniform(0.1, 0.6, 1), phase.size)
                share = box.float().mean()
                x = torch.where(box, x.flip(0), x)
                target = torch.lerp(target, target.flip(0), share)
        return x.contiguous(memory_format=torch.channels_last), target


@dataclass(frozen=True)
class Settings:
    """What the training depends on, besides the data.

    Attributes
    ----------
    epochs, batch, seed : int
        Passes over the data, pictures in a step, seed of all random numbers.
    rate, decay, smoothing, average : float
        Greatest learning rate, weight decay, label smoothing, and decay of the running average
        of the weights, per step.
    """

    epochs: int
    batch: int
    seed: int
    rate: float
    decay: float
    smoothing: float
    average: float


class Trainer:
    """The state of a training.

    Parameters
    ----------
    data : Pictures
        The data set.
    settings : Settings
        The settings.
    device : torch.device
        Where to compute.
    """

    def __init__(self, data: Pictures, settings: Settings, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.data = data
        self.settings = settings
        self.device = device
        self.epoch = 0
        self.net = Net(len(data.names)).to(device)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean = copy.deepcopy(self.net).eval().requires_grad_(False)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.net.parameters() if p.ndim > 1]},
            {"params": [p for p in self.net.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.SGD(
            groups,
            weight_decay=settings.decay,
            lr=settings.rate,
            momentum=0.9,
            nesterov=True,
        )

    def save(self, path: Path) -> None:
        """Write the state to a file, which is complete or not there at all."""
        part = path.with_name(path.name + ".part")
        state = {
            "settings": vars(self.settings),
            "epoch": self.epoch,
            "net": self.net.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Take the state from a file that `save` wrote under the same settings."""
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        if state["settings"] != vars(self.settings):
            raise click.UsageError(f"{path} was written under other settings: {state['settings']}")
        self.epoch = state["epoch"]
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])

    def set_rate(self, progress: float) -> None:
        """Set the learning rate: a linear warm-up, then half a cosine down to nothing."""
        warm = 0.06
        if progress < warm:
            factor = 0.05 + 0.95 * progress / warm
        else:
            factor = 0.5 + 0.5 * math.cos(math.pi * (progress - warm) / (1 - warm))
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate * factor

    @torch.no_grad()
    def update_mean(self, step: int) -> None:
        """Move the averaged weights towards the present ones."""
        weight = 1 - min(self.settings.average, (1 + step) / (10 + step))
        mean, now = self.mean.state_dict(), self.net.state_dict()
        keys = [key for key, value in mean.items() if value.is_floating_point()]
        torch._foreach_lerp_([mean[key] for key in keys], [now[key] for key in keys], weight)

    def run_epoch(self) -> str:
        """Train for one epoch and return a line about it."""
        started = time.perf_counter()
        settings = self.settings
        pictures, labels = self.data.train
        generator = torch.Generator().manual_seed(settings.seed * 100_003 + self.epoch)
        augment = Augment(generator, self.device)
        phase = next(p for p in PHASES if (self.epoch + 0.5) / settings.epochs < p.until)
        steps = len(pictures) // settings.batch
        order = torch.randperm(len(pictures), generator=generator)
        total, right = 0.0, 0.0
        self.net.train()
        for number in range(steps):
            step = self.epoch * steps + number
            self.set_rate(step / (steps * settings.epochs))
            chosen = order[number * settings.batch : (number + 1) * settings.batch]
            x, target = augment(
                pictures[chosen].to(self.device),
                labels[chosen].to(self.device),
                len(self.data.names),
                phase,
            )
            with torch.autocast(self.device.type, torch.bfloat16):
                logits = self.net(x)
            loss = functional.cross_entropy(logits, target, label_smoothing=settings.smoothing)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.update_mean(step)
            if number % 10 == 0:
                total += loss.item() * 10 / steps
                right += (logits.argmax(1) == target.argmax(1)).float().mean().item() * 10 / steps
        self.epoch += 1
        seconds = time.perf_counter() - started
        return (
            f"epoch {self.epoch}/{settings.epochs}  {phase.size} px  loss {total:.3f}  "
            f"train {right:.1%}  val {self.validate():.2%}  {seconds:.0f} s"
        )

    @torch.no_grad()
    def validate(self) -> float:
        """Return the averaged network's share of right answers on the validation pictures."""
        right = 0
        pictures, labels = self.data.val
        for some, y in zip(torch.split(pictures, 250), torch.split(labels, 250), strict=True):
            x = normalise(some.to(self.device).float() / 255)
            with torch.autocast(self.device.type, torch.bfloat16):
                logits = self.mean(x.contiguous(memory_format=torch.channels_last))
            right += int((logits.argmax(1).cpu() == y).sum())
        return right / len(labels)


def build_onnx(net: Net, names: list[str], size: int) -> onnx.ModelProto:
    """Return the network as an ONNX model, with the normalisation folded in.

    Parameters
    ----------
    net : Net
        The trained network.
    names : list of str
        Class names in class order.
    size : int
        Recommended short side of larger photographs, for the metadata.

    Returns
    -------
    onnx.ModelProto
        The checked model: ``image`` [N, 3, H, W] to ``probabilities`` [N, classes].
    """
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    value = "image"

    def add(kind: str, name: str, *inputs: str, **attributes: Any) -> None:
        nonlocal value
        nodes.append(helper.make_node(kind, [value, *inputs], [name], name=name, **attributes))
        value = name

    def convolution(name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        weights.append(numpy_helper.from_array(weight, f"{name}.weight"))
        weights.append(numpy_helper.from_array(bias, f"{name}.bias"))
        kernel = weight.shape[2]
        add(
            "Conv",
            name,
            f"{name}.weight",
            f"{name}.bias",
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2] * 4,
            strides=[1, 1],
        )

    folded = net.folded()
    for layer in LAYERS:
        convolution(f"conv{layer.name}", *next(folded))
        add("Relu", f"relu{layer.name}")
        if layer.pool:
            add("MaxPool", f"pool{layer.pool}", kernel_shape=[2, 2], strides=[2, 2])
    convolution(CLASSIFIER, *next(folded))
    add("GlobalAveragePool", "average")
    add("Flatten", "logits", axis=1)
    add("Softmax", "probabilities", axis=1)

    graph = helper.make_graph(
        nodes,
        "onnx_deconv_demo",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(names)])],
        weights,
        doc_string=DOC_STRING,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="onnx_deconv tools/train_demo.py",
        doc_string=DOC_STRING,
    )
    helper.set_model_props(
        model,
        {
            "labels": json.dumps(names),
            "preset": "imagenet",
            "size": str(size),
            "Image.BitmapPixelFormat": "Rgb8",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """Return an onnxruntime session of a serialised model, on the CPU."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def check_same(net: Net, model: bytes) -> float:
    """Return the greatest difference of probabilities between the network and the written model.

    Parameters
    ----------
    net : Net
        The trained network.
    model : bytes
        The serialised ONNX model.

    Returns
    -------
    float
        The difference, over random pictures of several shapes.

    Raises
    ------
    click.ClickException
        If it is greater than `TOLERANCE`.
    """
    net = copy.deepcopy(net).cpu().eval()
    session = open_session(model)
    generator = torch.Generator().manual_seed(0)
    greatest = 0.0
    for shape in ((4, 3, 64, 64), (1, 3, 224, 224), (1, 3, 300, 451)):
        x = torch.randn(shape, generator=generator)
        with torch.no_grad():
            expected = functional.softmax(net(x), 1).numpy()
        (actual,) = session.run(None, {"image": x.numpy()})
        greatest = max(greatest, float(np.abs(expected - actual).max()))
    if greatest > TOLERANCE:
        raise click.ClickException(f"the ONNX model differs from the network by {greatest:.2e}")
    return greatest


def evaluate(model: bytes, data: Pictures) -> tuple[float, float]:
    """Return a model file's top-1 and top-5 accuracy on the validation pictures.

    Parameters
    ----------
    model : bytes
        The serialised ONNX model.
    data : Pictures
        The data set.

    Returns
    -------
    tuple of float
        The two accuracies.
    """
    session = open_session(model)
    pictures, labels = data.val
    ranks = []
    for x, y in zip(torch.split(pictures, 100), torch.split(labels, 100), strict=True):
        (scores,) = session.run(None, {"image": normalise(x.float() / 255).numpy()})
        own = np.take_along_axis(scores, y.numpy()[:, None], 1)
        ranks.append((scores > own).sum(1))
    rank = np.concatenate(ranks)
    first, fifth = (float((rank < count).mean()) for count in (1, 5))
    return first, fifth


@click.command(context_settings={"show_default": True})
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("models/demo.onnx"),
    help="The ONNX file.",
)
@click.option("--epochs", default=40, help="Passes over the training pictures.")
@click.option("--batch", default=128, help="Pictures in one step.")
@click.option("--seed", default=1, help="Seed of all random numbers.")
@click.option("--rate", default=0.1, help="Greatest learning rate.")
@click.option("--decay", default=5e-4, help="Weight decay.")
@click.option("--smoothing", default=0.1, help="Label smoothing.")
@click.option("--average", default=0.998, help="Decay of the averaged weights, per step.")
@click.option("--size", default=64, help="Recommended size of photographs, for the metadata.")
@click.option("--threads", default=0, help="Processor threads; 0 lets torch choose.")
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("train_demo.pt"),
    help="Where the state of the training is kept.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint if there is one.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that gets the ONNX file of every epoch, for 'onnx-deconv evolution'.",
)
@click.option("--evaluate", "only_evaluate", is_flag=True, help="Only measure the ONNX file.")
def main(
    *,
    archive: Path,
    output: Path,
    size: int,
    threads: int,
    checkpoint: Path,
    resume: bool,
    keep: Path | None,
    only_evaluate: bool,
    **options: Any,
) -> None:
    """Train the demonstration network on ARCHIVE, write it as ONNX and measure it."""
    if threads:
        torch.set_num_threads(threads)
    data = read_pictures(archive)
    if not only_evaluate:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        trainer = Trainer(data, Settings(**options), device)
        if resume and checkpoint.exists():
            trainer.load(checkpoint)
        while trainer.epoch < trainer.settings.epochs:
            click.echo(trainer.run_epoch(), err=True)
            trainer.save(checkpoint)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                onnx.save(build_onnx(trainer.mean, data.names, size), keep / f"epoch{trainer.epoch}.onnx")
        model = build_onnx(trainer.mean, data.names, size).SerializeToString()
        difference = check_same(trainer.mean, model)
        click.echo(f"greatest difference from torch {difference:.1e}", err=True)
        output.write_bytes(model)
    model = output.read_bytes()
    top1, top5 = evaluate(model, data)
    click.echo(f"{output}: {len(model):,} bytes, top-1 {top1:.2%}, top-5 {top5:.2%}")


if __name__ == "__main__":
    main()
