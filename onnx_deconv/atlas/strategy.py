"""Whether a layer can be projected by one of the strategies: on crops, in batches, or image by image."""

from collections.abc import Container, Iterable, Mapping, Sequence

from onnx_deconv.model import Model


class StrategyError(Exception):
    """A layer's units cannot be projected by one of the strategies that are tried."""


def check_known_shapes(model: Model, values: Iterable[str]) -> None:
    """Check that the shapes of values are known but for the batch.

    Raises
    ------
    StrategyError
        If one is not.
    """
    for value in values:
        shape = model.type_of(value).shape
        if shape is None or None in shape[1:]:
            raise StrategyError(f"the size of {value!r} is known only when the model runs")


def without_batch_axis(model: Model, values: Sequence[str], below: Container[str], batch: str) -> list[str]:
    """List those of the values that differ between images but have no batch axis.

    Parameters
    ----------
    model
        The model, whose batch size is open.
    values
        The values.
    below
        The values whose positions are known over the image.
    batch
        The name of the batch size.
    """
    varying = _dependent_on_image(model).intersection(values)
    return sorted(v for v in varying if v not in below or not _has_axis(model, v, batch))


def check_row_major(model: Model, pools: Iterable[str]) -> None:
    """Check that the switches of pools, given by their outputs, count rows first.

    Raises
    ------
    StrategyError
        If those of one do not.
    """
    if any(model.producers[pool].attrs.get("storage_order", 0) for pool in pools):
        raise StrategyError("a pool's switches are in column-major order")


def check_shapes(model: Model, shapes: Mapping[str, Sequence[int]]) -> None:
    """Check that values have these shapes but for the batch.

    Raises
    ------
    StrategyError
        If one has not.
    """
    for value, shape in shapes.items():
        if known_shape(model, value)[1:] != list(shape)[1:]:
            raise StrategyError(f"the shape of {value!r} does not follow from the crop's")


def known_shape(model: Model, value: str) -> list[int]:
    """Return a value's shape, all of which but the batch is known."""
    return [d or 1 for d in model.type_of(value).shape or ()]


def _has_axis(model: Model, value: str, batch: str) -> bool:
    return (model.type_of(value).symbols or ("",))[0] == batch


def _dependent_on_image(model: Model) -> set[str]:
    """Collect the values that depend on the image, be it only on its size."""
    found = set(model.inputs)
    for node in model.nodes:
        if any(value.name in found for value in node.inputs):
            found.update(value.name for value in node.outputs)
    return found
