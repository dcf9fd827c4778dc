"""What pictures a model takes, and how a photograph becomes one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv.errors import InputError, sizes_of, way
from onnx_deconv.imaging.channels import Channels, Layout
from onnx_deconv.imaging.config_files import changes_from, config_beside
from onnx_deconv.imaging.picture import Size
from onnx_deconv.imaging.preprocess import Preprocess
from onnx_deconv.imaging.presets import preprocess_from_metadata, preset
from onnx_deconv.model import Model
from onnx_deconv.model.axis_names import axis_names
from onnx_deconv.model.embedded import PixelRange, prepared_pixels

_DEFAULT_SIZE = 224
_CHANNELS: Mapping[int, Channels] = {1: "L", 3: "RGB", 4: "RGBA"}
_CHANNEL_AXIS = "DATA_CHANNEL"
_PREPARED: Mapping[PixelRange, str] = {"bytes": "raw", "unit": "unit"}
"""The preset for a model that prepares pixels itself."""
_PIXELS = "uint8"
"""The type of pixels. Numbers less a mean do not fit into it: such a model prepares pixels itself."""


@dataclass(frozen=True)
class ImageInput:
    """An input that takes pictures.

    Attributes
    ----------
    name
        Its name.
    layout
        ``"NCHW"`` or ``"NHWC"``.
    batch, channels, size
        How many images at once, how many channels, (height, width); ``None`` where any number will do.
    dtype
        NumPy's name of its element type.
    """

    name: str
    layout: Layout
    batch: int | None
    channels: int | None
    size: tuple[int | None, int | None]
    dtype: str

    @classmethod
    def of(cls, model: Model, layout: Layout | None = None, name: str | None = None) -> "ImageInput":
        """Find out what pictures a model takes.

        The layout is the one given; else the one that the input's denotations state (``DATA_CHANNEL``);
        else the one that the first convolution reads; else channels last where the last axis has 1, 3 or 4
        entries and the second has not; else channels first.

        Parameters
        ----------
        model
            The model.
        layout
            Where the channels are, if that is told.
        name
            The input; by default the only one.

        Raises
        ------
        InputError
            If it takes anything but batches of pictures, or two layouts are possible.
        """
        if name is None and len(model.inputs) != 1:
            names = ", ".join(model.inputs)
            raise InputError(
                f"the model has inputs {names}, and this takes photographs for one: give the "
                f"others, as in {way(f'--input {model.inputs[-1]}=FILE', 'onnx_deconv.with_inputs')}"
            )
        name = name or model.inputs[0]
        types = model.type_of(name)
        if types.shape is None:
            raise InputError(f"the shape of input {name!r} is unknown: {sizes_of(name)}")
        if len(types.shape) != len("NCHW"):
            raise InputError(
                f"input {name!r} has shape {types}, which is no batch of pictures; explain takes numbers "
                f"too ({way(f'--input {name}=FILE.npy', 'an array')})"
            )
        layout = layout or _told_layout(model, name)
        batch, *rest = types.shape
        channels, *size = rest if layout == "NCHW" else (rest[2], rest[0], rest[1])
        dtype = model.input_dtype(name).name
        return cls(name, layout, batch, channels, (size[0], size[1]), dtype)

    def channels_like(self, channels: Channels) -> Channels:
        """Return these channels, or as many others as the input has: L for one, with an A for four.

        Raises
        ------
        InputError
            If the input has a number of channels that no picture has.
        """
        if self.channels is None or self.channels == len(channels):
            return channels
        if self.channels not in _CHANNELS:
            raise InputError(
                f"input {self.name!r} has {self.channels} channels, and no picture has; explain takes "
                f"numbers too ({way(f'--input {self.name}=FILE.npy', 'an array')})"
            )
        if channels == "BGR" and self.channels == len("BGRA"):
            return "BGRA"
        return _CHANNELS[self.channels]

    def size_or(self, default: Size | None) -> Size:
        """Return (height, width): the input's own where it is fixed, else the default (224 if none)."""
        height, width = default or (_DEFAULT_SIZE, _DEFAULT_SIZE)
        return self.size[0] or height, self.size[1] or width


def takes_pictures(model: Model, name: str, layout: Layout | None = None) -> bool:
    """Tell whether an input takes batches of pictures: of 1, 3 or 4 channels, or any number of them.

    Who tells its layout means it to.

    Raises
    ------
    InputError
        If two layouts are possible.
    """
    shape = model.type_of(name).shape
    if shape is None or len(shape) != len("NCHW"):
        return False
    return layout is not None or ImageInput.of(model, layout, name).channels in {None, *_CHANNELS}


def _told_layout(model: Model, name: str) -> Layout:
    """Return the layout of an input, if anything tells it.

    Raises
    ------
    InputError
        If the first and the last axis after the batch may both be the channels, and nothing tells which: not
        even that pictures with the channels first would be square.
    """
    shape = model.type_of(name).shape or ()
    told = _CHANNEL_AXIS in _denotations(model, name) or name in axis_names(model).channels
    is_square = shape[2] == shape[3]  # with the channels first, as pictures mostly are
    if not told and not is_square and {shape[1], shape[3]} <= set(_CHANNELS):
        raise InputError(
            f"input {name!r} has shape {model.type_of(name)}, and nothing tells whether its channels are "
            f"first or last: choose NCHW or NHWC by {way('--layout', 'preprocess=Preprocess(layout=...)')}"
        )
    return input_layout(model, name)


def input_layout(model: Model, name: str) -> Layout:
    """Tell where an input's channels are: by denotations, the first filter, the shape; else first."""
    shape, denotations = model.type_of(name).shape, _denotations(model, name)
    if _CHANNEL_AXIS in denotations:
        return "NCHW" if denotations.index(_CHANNEL_AXIS) == 1 else "NHWC"
    if shape is None or len(shape) != len("NCHW"):
        return "NCHW"
    filtered = axis_names(model).channels.get(name)
    if filtered in (1, len(shape) - 1):
        return "NCHW" if filtered == 1 else "NHWC"
    return "NHWC" if shape[3] in _CHANNELS and shape[1] not in _CHANNELS else "NCHW"


def _denotations(model: Model, name: str) -> list[str]:
    (info,) = (i for i in model.proto.graph.input if i.name == name)
    return [d.denotation for d in info.type.tensor_type.shape.dim]


def preprocess_for(
    model: Model,
    chosen: str | Path | None = None,
    layout: Layout | None = None,
    name: str | None = None,
    **changes: Any,
) -> tuple[Preprocess, str | None]:
    """Decide how a photograph becomes the model's input.

    The arguments come first, then the model's metadata, then a ``preprocessor_config.json`` (Hugging Face)
    or ``config.json`` (timm) beside the model, then what the model does to the numbers itself
    (:func:`~onnx_deconv.model.embedded.prepared_pixels`), then the preset ``imagenet`` (``raw`` for an input
    of integers). The input's own size and number of channels are kept in any case. An input of uint8 takes
    pixels, as the model prepares them itself: what the metadata or a file say of numbers is not applied.

    Parameters
    ----------
    model
        The model.
    chosen
        One of :data:`onnx_deconv.imaging.PRESETS`, or such a file; it replaces what the metadata say.
    layout
        The input's layout, where its shape does not show it.
    name
        The input; by default the only one.
    **changes
        Attributes of :class:`~onnx_deconv.imaging.Preprocess`.

    Returns
    -------
    preprocess : Preprocess
    assumed : str or None
        The preset that was assumed because nothing says how pixels become numbers; else ``None``.

    Raises
    ------
    InputError
        If the model takes no pictures, or none of that size, or the values contradict each other.
    """
    takes = ImageInput.of(model, layout, name)
    own = prepared_pixels(model, takes.name) if np.dtype(takes.dtype).kind == "f" else "bytes"
    fallback = _PREPARED[own] if own is not None else "imagenet"
    named = chosen if isinstance(chosen, str) else None
    base = preset(named or fallback)
    base = base.replace(size=takes.size_or(base.size), layout=takes.layout, dtype=takes.dtype)
    base = base.replace(channels=takes.channels_like(base.channels))
    in_metadata = named is None and bool({"preset", "Image.NominalPixelRange"} & set(model.metadata))
    if chosen is None:
        base = preprocess_from_metadata(model.metadata, base)
        base = base.replace(channels=takes.channels_like(base.channels), size=takes.size_or(base.size))
    config = chosen if isinstance(chosen, Path) else None
    if chosen is None and not in_metadata:
        config = config_beside(model.files.home)
    if config is not None:
        base = _configured(base, takes, changes_from(config))
    if takes.dtype == _PIXELS and chosen is None:
        raw = preset("raw")
        base, in_metadata = base.replace(scale=raw.scale, mean=raw.mean, std=raw.std), True
    told = own is not None and np.dtype(takes.dtype).kind == "f"
    known = told or named or config or in_metadata or {"mean", "std", "scale"} & set(changes)
    found = base.replace(**changes)
    if found.size is not None and takes.size_or(found.size) != found.size:
        given, own_size = ("×".join(map(str, size)) for size in (found.size, takes.size_or(found.size)))
        raise InputError(f"size {given}: {model.name} takes pictures of {own_size} alone: leave the size out")
    return found, None if known else fallback


def _configured(base: Preprocess, takes: ImageInput, changes: dict[str, Any]) -> Preprocess:
    """Apply what a file beside the model says; the input's own size and channels are kept."""
    size = takes.size_or(changes.get("size", base.size))
    if size != changes.get("size"):
        changes.pop("resize", None)  # it belongs to the other size
    channels = takes.channels_like(changes.pop("channels", base.channels))
    statistics = {name: changes.pop(name) for name in ("mean", "std")}
    in_colour = base.replace(channels="RGB", mean=statistics["mean"], std=statistics["std"])
    return in_colour.replace(channels=channels, **(changes | {"size": size}))
