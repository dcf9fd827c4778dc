"""Are a method's saliency maps about the photograph and about the class: measured on any model."""

from onnx_deconv.evaluation.bootstrap import Interval, mean_interval, paired_difference
from onnx_deconv.evaluation.catalogue import MEASURES, Measure
from onnx_deconv.evaluation.evaluate import METHODS, Step, evaluate
from onnx_deconv.evaluation.methods import BASELINES, Maps, Method, explanations, method_of
from onnx_deconv.evaluation.report import WorstCase, draw_worst, write_report
from onnx_deconv.evaluation.results import Evaluation, Row

__all__ = [
    "BASELINES",
    "MEASURES",
    "METHODS",
    "Evaluation",
    "Interval",
    "Maps",
    "Measure",
    "Method",
    "Row",
    "Step",
    "WorstCase",
    "draw_worst",
    "evaluate",
    "explanations",
    "mean_interval",
    "method_of",
    "paired_difference",
    "write_report",
]
