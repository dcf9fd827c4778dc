"""The model and the photograph that come with the package."""

from pathlib import Path

from onnx_deconv.errors import InputError


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


def embedded(name: str) -> Path:
    """Find a file that comes with the package: inside it, or in a checkout next to it.

    Raises
    ------
    InputError
        If it is in neither place.
    """
    package = Path(__file__).parents[1]
    for home in (package / "models", package.parent / "models"):
        if (home / name).is_file():
            return home / name
    raise InputError(f"{name} is not in {package / 'models'}: install onnx-deconv again")
