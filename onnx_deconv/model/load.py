"""Load a model from a file or from memory, and say in one line what is wrong with what is none."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_deconv.errors import DeconvError, InputError, ModelError
from onnx_deconv.files import Spool
from onnx_deconv.model import upgrade
from onnx_deconv.model.axis_names import without_images
from onnx_deconv.model.canonical import InputShapes, is_size
from onnx_deconv.model.external_data import Content, File, skim
from onnx_deconv.model.foreign import HEAD, what_it_is
from onnx_deconv.model.image_axis import with_image_axis
from onnx_deconv.model.model import Model
from onnx_deconv.model.model_files import FileState, ModelFiles
from onnx_deconv.model.protos import all_tensors, read_whole

Source = str | os.PathLike[str] | bytes | ModelProto
_FOLDER = "give an ONNX file (a TensorFlow SavedModel is converted by python -m tf2onnx.convert)"


def load(source: Source, input_shapes: InputShapes | None = None) -> Model:
    """Load an ONNX model; one of opset 1 to 6 is rewritten for opset 7 (:mod:`onnx_deconv.model.upgrade`).

    Parameters
    ----------
    source
        A path, a serialised model, or a ``ModelProto``. External data are looked for beside a path.
    input_shapes
        Sizes to assume for inputs, by name; a word, as ``"N"``, stands for any size.

    Raises
    ------
    ModelError
        If the file is missing or no model, or its external data are missing or outside its folder.
    """
    if isinstance(source, ModelProto):
        return _spooled(_serialised(source), "the given model", input_shapes)
    if isinstance(source, bytes | bytearray | memoryview):
        return _spooled(bytes(source), "the given model", input_shapes)
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"model: give a path, a serialised model or a ModelProto, not {type(source).__name__}"
        )
    path = Path(source)
    with _naming_the_path(path):
        proto, files = read_proto(path)
        model = _read(proto, files, str(path), input_shapes)
        if model.opset >= upgrade.OLDEST_OPSET:
            return model
        return _spooled(_upgraded(files), str(path), input_shapes)


def read_proto(path: Path) -> tuple[ModelProto, ModelFiles]:
    """Read a model file, its large tensors left in it.

    Raises
    ------
    ModelError
        If there is no such file, or it is no ONNX model.
    """
    with _naming_the_path(path):
        if path.is_dir():
            raise ModelError(f"{path}: is a folder, and holds no pair: {_FOLDER}")
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ModelError(f"{path}: is no ordinary file: give an ONNX file")
        with path.open("rb") as file:
            files = ModelFiles(path, FileState.of(file.fileno()))
            return _parse(File(file.fileno()), str(path), files.name), files


@contextmanager
def _naming_the_path(path: Path) -> Iterator[None]:
    if "\0" in str(path):
        raise ModelError(f"{str(path)!r}: no path has a zero byte in it")
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"{path}: cannot be read ({reason}); is the path right?") from error


def _upgraded(files: ModelFiles) -> bytes:
    return upgrade.upgrade(onnx.load(files.folder / files.name)).SerializeToString()


def digest(model: Model) -> str:
    """Return what tells one model's file from another's: the start of the SHA-256 of its graph."""
    return hashlib.sha256(model.proto.SerializeToString(deterministic=True)).hexdigest()[:16]


@contextmanager
def naming_the_file(proto: ModelProto, name: str) -> Iterator[None]:
    """Turn what goes wrong inside into one line about the file, if the standard's checker faults it too.

    Raises
    ------
    ModelError
        If the model is invalid; what goes wrong with a valid one is our fault, and raised as it is.
    """
    try:
        yield
    except (DeconvError, OSError):
        raise
    except Exception as error:
        complaint = _complaint(proto)
        if complaint is None:
            raise
        raise ModelError(f"{name}: no valid ONNX model, or damaged ({complaint})") from error


def _complaint(proto: ModelProto) -> str | None:
    """Return what the standard's checker finds wrong first."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    for tensor in all_tensors(copy):
        if tensor.data_location == TensorProto.EXTERNAL:
            # Where weights lie was checked before; without them the checker needs no file.
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((), np.float32), name))
    for info in (*copy.graph.input, *copy.graph.output):
        # Runtimes do without a shape there.
        info.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(copy)
    except Exception as error:  # noqa: BLE001  (it raises what it likes)
        return str(error).strip().partition("\n")[0]
    return None


def parse_input_shape(text: str) -> tuple[str, tuple[int | str, ...]]:
    """Parse ``name:1,3,224,224`` as the ONNX tools write it; a name may contain colons.

    A word in the place of a number, as in ``name:N,3,224,224``, stands for any size.

    Raises
    ------
    InputError
        If the text has another form.
    """
    name, _, sizes = text.rpartition(":")
    shape = tuple(int(size) if size.isdecimal() else size for size in map(str.strip, sizes.split(",")))
    if not name or not all(map(is_size, shape)):
        raise InputError(
            f"--input-shape {text!r}: write it as NAME:1,3,224,224, or as NAME:N,3,224,224 for any number"
        )
    return name, shape


def _serialised(proto: ModelProto) -> bytes:
    try:
        return proto.SerializeToString()
    except Exception as error:
        remedy = "save it with external data and give its path"
        raise ModelError(f"the given model cannot be serialised ({error}): {remedy}") from error


def _spooled(content: bytes, name: str, input_shapes: InputShapes | None) -> Model:
    """Give a model that lies in memory a file, so that weights have one home: a file."""
    spool = Spool()
    path = spool.folder / "model.onnx"
    path.write_bytes(content)
    files = ModelFiles(path, FileState.of(path), spool)
    proto = _parse(memoryview(content), name, files.name)
    model = _read(proto, files, name, input_shapes)
    if model.opset >= upgrade.OLDEST_OPSET:
        return model
    return _spooled(_upgraded(files), name, input_shapes)


def _read(proto: ModelProto, files: ModelFiles, name: str, input_shapes: InputShapes | None) -> Model:
    """Read a model; one that takes a single image gets an axis for it, so that all take batches."""
    with naming_the_file(proto, name):
        given = dict(input_shapes or {})
        model = Model(proto, files, name, given | _of_one_image(proto, given))
        lacking = without_images(model)
        if not lacking:
            return model if model.input_shapes == given else Model(proto, files, name, given)
        shapes = {key: (1, *sizes) if key in lacking else sizes for key, sizes in model.input_shapes.items()}
        return Model(with_image_axis(proto, lacking), files, name, shapes)


def _of_one_image(proto: ModelProto, shapes: InputShapes) -> dict[str, Sequence[int | str]]:
    """Return the sizes that are given with an axis for images, of size 1, that the file lacks; without it."""
    axes = {info.name: len(info.type.tensor_type.shape.dim) for info in proto.graph.input}
    return {
        name: sizes[1:]
        for name, sizes in shapes.items()
        if sizes[:1] == (1,) and axes.get(name) == len(sizes) - 1
    }


def _parse(content: Content, name: str, location: str) -> ModelProto:
    """Read a model, its large tensors left at `location`."""
    foreign = what_it_is(bytes(content[:HEAD]))
    if foreign is not None:
        raise ModelError(f"{name}: {foreign}")
    try:
        proto = ModelProto.FromString(skim(content, location))
        read_whole(proto)
    except (ValueError, DecodeError) as error:
        raise ModelError(f"{name}: no ONNX model, or cut short ({error})") from error
    except RecursionError as error:
        raise ModelError(f"{name}: damaged: its graphs are nested hundreds deep") from error
    return proto
