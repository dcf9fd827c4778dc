"""Inputs of numbers that are no pictures: signals, volumes, images of any bands, tables, flags."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_deconv.attribution.batches import batched
from onnx_deconv.errors import InputError, sizes_of
from onnx_deconv.model import Array, Model
from onnx_deconv.model.axis_names import axis_names

_PICTURE_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class NumberInput:
    """An input, and what its axes are.

    Attributes
    ----------
    name
        Its name.
    shape
        Of one sample, without the batch axis; ``None`` where it is unknown.
    batched
        Whether the first axis is the batch.
    channel_axis
        Of one sample; ``None`` where it has no channels.
    dtype
        Of its elements.
    declared
        Its shape as messages write it.
    """

    name: str
    shape: tuple[int | None, ...] | None
    batched: bool
    channel_axis: int | None
    dtype: np.dtype[Any]
    declared: str

    @classmethod
    def of(cls, model: Model, name: str) -> "NumberInput":
        """Find out what an input takes.

        Its channels are those that the first convolution reads, and it has none if that goes along all axes.
        Else they are the first axis of a sample, or the last if it alone has as many entries as pictures
        have channels.
        """
        types, is_batched = model.type_of(name), name in batched(model)
        shape = None if types.shape is None else tuple(types.shape[int(is_batched) :])
        names = axis_names(model)
        told = names.channels.get(name)
        axis = None if told is None else told - int(is_batched)
        if axis is None and shape is not None and len(shape) > 1 and name not in names.planes:
            last = shape[-1] in _PICTURE_CHANNELS and shape[0] not in _PICTURE_CHANNELS
            axis = len(shape) - 1 if last else 0
        return cls(name, shape, is_batched, axis, model.input_dtype(name), str(types))

    def samples(self, given: Any, what: str, *, channels_first: bool = False) -> Array:
        """Bring numbers into the form that the input takes.

        Parameters
        ----------
        given
            One number, which every element gets; one sample; or a batch of them. Channels may be left out
            where there is one.
        what
            What messages call it.
        channels_first
            Whether its first axis is known to be the channels.

        Returns
        -------
        numpy.ndarray
            N samples; what is given where the input has no batch axis.

        Raises
        ------
        InputError
            If it does not fit.
        """
        array = self._typed(np.asarray(given), what)
        if self.shape is None:
            raise InputError(f"the shape of input {self.name!r} is unknown: {sizes_of(self.name)}")
        if array.ndim == 0 and self.shape:
            array = np.full([size or 1 for size in self.shape], array)
        if channels_first and array.ndim == len(self.shape) and self.channel_axis is not None:
            array = np.moveaxis(array, 0, self.channel_axis)
        if self._fits(array):
            return array[None] if self.batched else array
        if self.batched and array.ndim and self._fits(array[0]) and len(array):
            return array
        if self.channel_axis is not None and array.ndim == len(self.shape) - 1:
            whole = np.expand_dims(array, self.channel_axis)
            if self._fits(whole):
                return whole[None] if self.batched else whole
        size = "×".join(map(str, array.shape)) or "one number"
        raise InputError(
            f"input {self.name!r} takes {self.declared}, and {what} is {size}: bring it to that shape"
        )

    def canonical(self, sample: Array) -> Array:
        """Return one sample with its channels first: C × positions."""
        return sample[None] if self.channel_axis is None else np.moveaxis(sample, self.channel_axis, 0)

    def _fits(self, sample: Array) -> bool:
        shape = self.shape or ()
        return sample.ndim == len(shape) and all(
            size in (None, own) and own for size, own in zip(shape, sample.shape, strict=True)
        )

    def _typed(self, array: Array, what: str) -> Array:
        """Return the numbers in the input's type; fractions do not become whole numbers."""
        if array.dtype.kind not in "fiub":
            raise InputError(f"{what} holds no numbers but {array.dtype}: give an array of numbers")
        typed = array.astype(self.dtype)
        if self.dtype.kind != "f" and not np.array_equal(typed.astype(np.float64), array.astype(np.float64)):
            wanted = "true or false" if self.dtype.kind == "b" else f"whole numbers that {self.dtype} holds"
            raise InputError(f"input {self.name!r} takes {wanted}, and {what} holds others")
        return typed
