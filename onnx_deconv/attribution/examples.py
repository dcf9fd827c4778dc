"""The model and the photograph that come with the package."""

from pathlib import Path

from onnx_deconv.files import embedded


def example() -> tuple[Path, Path]:
    """Find the model and the photograph that come with the package: a small classifier, and a cat.

    Returns
    -------
    tuple of pathlib.Path
        The model and the photograph.

    Examples
    --------
    >>> model, photo = example()
    >>> explain(model, photo).label
    'tabby'
    """
    return embedded("demo.onnx"), embedded("chelsea.png")
