"""Comparisons, truth values and sizes: through these nothing is sent back."""

import numpy as np

from onnx_deconv.operators import axes, fields, numbers
from onnx_deconv.operators.registry import declare
from onnx_deconv.operators.traits import DISCONTINUOUS, PICK, POINTWISE, RANDOM, REPEATS, SHAPE_ONLY

declare("And", traits={POINTWISE}, evaluate=np.logical_and)
declare("Or", traits={POINTWISE}, evaluate=np.logical_or)
declare("Xor", traits={POINTWISE}, evaluate=np.logical_xor)
declare("Not", traits={POINTWISE}, evaluate=np.logical_not)
declare("Equal", traits={POINTWISE}, evaluate=np.equal)
declare("Greater", traits={POINTWISE}, evaluate=np.greater)
declare("GreaterOrEqual", traits={POINTWISE}, evaluate=np.greater_equal)
declare("Less", traits={POINTWISE}, evaluate=np.less)
declare("LessOrEqual", traits={POINTWISE}, evaluate=np.less_equal)
declare("IsNaN", traits={POINTWISE}, evaluate=np.isnan)
declare("IsInf", traits={POINTWISE}, evaluate=numbers.is_inf)
declare("Mod", traits={POINTWISE}, evaluate=lambda a, b, fmod=0: np.fmod(a, b) if fmod else np.mod(a, b))
declare("Shrink", traits={POINTWISE})
declare("ArgMax", "ArgMin", traits={PICK}, field=fields.arg_reduction, axes=axes.arg_reduction)
declare("OneHot", traits={PICK, DISCONTINUOUS})
declare("Shape", traits={SHAPE_ONLY}, evaluate=numbers.shape)
declare("Size", traits={SHAPE_ONLY}, evaluate=numbers.size)
declare("ConstantOfShape", traits={REPEATS}, evaluate=numbers.filled)
declare("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", traits={RANDOM})
declare("Multinomial", "Bernoulli", traits={RANDOM})
declare("NonMaxSuppression", traits={PICK})
declare("LSTM", "GRU", "RNN", axes=axes.recurrence)
declare("ZipMap", domain="ai.onnx.ml", traits={PICK}, evaluate=lambda scores: scores)
declare("LabelEncoder", domain="ai.onnx.ml", traits={PICK})
declare(
    "ArrayFeatureExtractor",
    domain="ai.onnx.ml",
    traits={PICK},
    evaluate=lambda numbers, places: numbers[..., places.ravel()],
)
