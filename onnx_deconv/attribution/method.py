"""Which method explains what: the choice that ``auto`` makes."""

from collections.abc import Sequence

from onnx_deconv.compiler.backward import Walk
from onnx_deconv.compiler.dependence import ENOUGH, pooled_share
from onnx_deconv.model import Model
from onnx_deconv.model.feature_maps import feature_maps
from onnx_deconv.model.heads import heads
from onnx_deconv.semantics import Semantics

AUTO = "auto"
CLASS_METHOD = Semantics("guided", "grad-cam^3", "class-map")
"""What ``auto`` explains classes with."""


def chosen_method(model: Model, layer: str, inputs: Sequence[str] | None = None) -> Semantics:
    """Choose the semantics that a value is explained with.

    Classes get :data:`CLASS_METHOD` where the model has feature maps and one image, else ``guided``, as class
    maps do; units
    of a layer get ``deconvnet`` where max pools below tie it to the image, else ``guided``. The choice never
    gives a picture that does not depend on the image; docs/what-a-picture-can-tell.md has the measurements.

    Parameters
    ----------
    model
        The model.
    layer
        The explained value.
    inputs
        As for :func:`~onnx_deconv.compiler.pair.compile_pair`.

    Raises
    ------
    ModelError
        If no path leads from an input to the value.
    """
    walk = Walk(model, layer, Semantics(), inputs)
    head = next((head for head in heads(model) if head.start == layer), None)
    if head is None:
        return Semantics("deconvnet" if pooled_share(walk.path) >= ENOUGH else "guided")
    if head.kind in ("class map", "sequence", "image"):
        return Semantics("guided")  # each class has its own map, from which nothing has to be gathered
    maps = feature_maps(model, layer, walk.path, walk.reached)
    return Semantics("guided") if maps is None or len(walk.inputs) > 1 else CLASS_METHOD
