"""What an atlas holds of a feature map: its strongest units over many images."""

from typing import Any

from onnx_deconv.atlas.reader import Reader
from onnx_deconv.model import Model
from onnx_deconv.model.feature_maps import rectified_convolution


class Nine:
    """Shows what a finished atlas of the same model holds.

    Parameters
    ----------
    reader
        The atlas.
    model
        The model that is explored.

    Raises
    ------
    InputError
        If the atlas was made of another model.
    """

    def __init__(self, reader: Reader, model: Model) -> None:
        reader.check_model(model)
        self._reader, self._model = reader, model

    def of(self, layer: str, channel: int) -> list[dict[str, Any]]:
        """Tell of the strongest units of a feature map, the strongest first; nothing where it has none.

        Each has its ``projection`` and ``patch`` as pictures, the name of its ``image`` and its
        ``activation``. What a convolution computes is looked up rectified, as atlases have it.
        """
        names = (layer, rectified_convolution(self._model, layer))
        known = self._reader.atlas.layers
        name = next((each for each in names if each in known), None)
        if name is None or not 0 <= channel < len(known[name].activations):
            return []
        table, files = known[name], self._reader.files(name)
        projections, patches = files.projections[channel], files.patches[channel]
        return [
            {
                "projection": projections[rank],
                "patch": patches[rank],
                "image": self._reader.atlas.images[int(table.images[channel, rank])],
                "activation": float(table.activations[channel, rank]),
            }
            for of, rank in table.ranks()
            if of == channel
        ]
