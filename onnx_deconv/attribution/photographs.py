"""Explain photographs: what ``explain`` does, without the command line."""

from collections.abc import Sequence

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.samples import Sample, Selection, explain_samples
from onnx_deconv.attribution.shown import ShownPhoto
from onnx_deconv.imaging import InputAxes, Photo

__all__ = ["Selection", "explain_photos"]


def explain_photos(
    explainer: Explainer,
    photos: Sequence[Photo],
    selection: Selection,
    axes: InputAxes | None = None,
    names: Sequence[str] = (),
    assumed: str | None = None,
) -> list[list[Explanation]]:
    """Explain photographs of one size together.

    Parameters
    ----------
    explainer
        For the model.
    photos
        At most as many as the model takes at once; where that number is fixed, fewer will do.
    selection
        What to explain.
    axes
        The order of the axes and channels of the model's input: the preprocessing. Without it the
        explanations have no pictures.
    names
        What captions call the photographs.
    assumed
        The preset that was assumed, for want of anything that says how pixels become numbers.

    Returns
    -------
    list
        For each photograph its explanations: in the order of the selection's targets, or strongest first.

    Raises
    ------
    InputError
        If the selection or a photograph does not fit the model.
    """
    (name,) = explainer.model.inputs
    named = names or ["photograph"] * len(photos)
    samples = []
    for photo, called in zip(photos, named, strict=False):
        shown = (
            {}
            if axes is None
            else {name: ShownPhoto(photo, axes.layout, axes.channels, called, None, assumed)}
        )
        samples.append(Sample({name: photo.tensor}, shown, photo))
    return explain_samples(explainer, samples, selection)
