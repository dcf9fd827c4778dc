"""What an atlas will take: disk, memory and time, told before it is begun."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from onnx_deconv.atlas.layer_files import EXACT, LayerPlan, Plans
from onnx_deconv.atlas.projector import Costs
from onnx_deconv.atlas.scan import BATCH
from onnx_deconv.atlas.writer import DRAWN_AT_ONCE
from onnx_deconv.model import Model
from onnx_deconv.runtime import peak_memory, workers

# Measured on SqueezeNet's atlas of 120 photographs: bytes of a picture and of what stands beside it.
_LOSSY, _EXACT = 0.26, (90, 1.9)
_ENTRIES, _SHEETS, _INDEX = 236, 760, 60
_NUMBER, _CHUNK = 1.75, 110
"""Bytes of a number that is kept, float16, where none is zero; and of what finds a unit's numbers."""
SHEET = 1.6e-3
"""Seconds in which one core draws a unit into the sheets."""
_WAITING = 64_000_000
"""Bytes of units that wait to be projected together."""

_DRAWN = 9 * 48 * 48 * 3
"""Bytes of a unit in a sheet that is drawn, measured: the picture, the block, the sheet, what encodes it."""
_IN_WORK = 5
"""Images for each core whose values the units hold that are projected or wait for it."""
_MARGIN = 1.25


class Means(NamedTuple):
    """What an atlas will take.

    Attributes
    ----------
    maps
        Feature maps.
    disk
        Bytes of the finished atlas.
    making
        Bytes, at most, while it is made.
    memory
        Bytes of memory, at most.
    seconds
        What one core, or the GPU, would take for all; ``None`` where the number of images is not known.
    """

    maps: int
    disk: int
    making: int
    memory: int
    seconds: float | None


def means(model: Model, costs: Costs, plan: Plans, images: int | None, scan_seconds: float) -> Means:
    """Estimate what an atlas will take.

    Parameters
    ----------
    model
        The model.
    costs
        What projections take.
    plan
        What is kept of each layer.
    images
        How many images there are, where that is known.
    scan_seconds
        What one core takes to scan an image.
    """
    units = units_of(plan, images)
    disk, making = room(plan, images)
    seconds = None
    if images is not None:
        projected = sum(units[layer] * (each + SHEET) for layer, each in costs.seconds.items())
        kept = min(images, sum(units.values()))
        seconds = images * scan_seconds + kept * costs.image + projected
    return Means(
        sum(each.units[0] for each in plan.values()), disk, making,
        _memory(model, costs.bytes_read, plan, units), seconds,
    )  # fmt: skip


def units_of(plan: Plans, images: int | None) -> dict[str, int]:
    """Return how many units an atlas has at most, by layer."""
    ranks = {layer: min(each.units[1], images or each.units[1]) for layer, each in plan.items()}
    return {layer: each.units[0] * ranks[layer] for layer, each in plan.items()}


def room(plan: Plans, images: int | None = None) -> tuple[int, int]:
    """Estimate the bytes of a finished atlas, and those that it takes while it is made."""
    units = units_of(plan, images)
    pieces = sum(units[layer] * _of_pieces(each) for layer, each in plan.items())
    beside = sum(units.values()) * (_ENTRIES + _SHEETS + _INDEX)
    return round(pieces + beside), round(2 * pieces + beside)


def _memory(model: Model, bytes_read: int, plan: Plans, units: Mapping[str, int]) -> int:
    """Estimate the most memory: what there is now, and what the scan, the projections or the sheets add."""
    cores, maps = workers("cpu"), _bytes_of_maps(model, plan)
    scanned = cores * BATCH * maps
    projected = cores * (2 * maps + _IN_WORK * bytes_read) + _WAITING
    sheets = sum(sorted(units.values())[-min(cores, DRAWN_AT_ONCE) :]) * _DRAWN
    return round(_MARGIN * (peak_memory() + max(scanned, projected, sheets)))


def _of_pieces(plan: LayerPlan) -> float:
    """Return the bytes of what is kept of one unit."""
    pixels = math.prod(plan.tile)
    picture = _EXACT[0] + _EXACT[1] * pixels if pixels <= EXACT else _LOSSY * pixels
    return 2 * picture + (_CHUNK + _NUMBER * math.prod(plan.numbers) if plan.numbers else 0)


def _bytes_of_maps(model: Model, layers: Mapping[str, object]) -> int:
    shapes = (model.type_of(layer).shape or () for layer in layers)
    return sum(4 * math.prod(size or 1 for size in shape[1:]) for shape in shapes)
