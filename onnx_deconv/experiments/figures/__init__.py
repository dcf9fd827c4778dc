"""Figures of the experiments: drawn here, computed elsewhere."""

from onnx_deconv.experiments.figures.correspondence import draw_correspondence
from onnx_deconv.experiments.figures.evolution import draw_evolution
from onnx_deconv.experiments.figures.invariance import draw_invariance
from onnx_deconv.experiments.figures.occlusion import draw_occlusion

__all__ = ["draw_correspondence", "draw_evolution", "draw_invariance", "draw_occlusion"]
