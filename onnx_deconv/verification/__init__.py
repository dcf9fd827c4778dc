"""Is a pair exact? Checks against answers that share no code with the rules.

1. *forward*: the forward model gives what the user's own model gives.
2. *switches*: each points to a maximum of its own window.
3. *companion*: it sends a seed back as the slow reference does
   (:mod:`onnx_deconv.verification.reference`), which computes in float64 from the very forward values that
   the companion reads. Probabilities add up, and relevance by the epsilon rule is input times gradient.
4. *difference*: what the gradient table predicts for small steps, along the gradient and in random
   directions, is what the runtime then computes.
5. *image*, *class*: what two images, and two units, have to do with the picture, as the manifest says.
6. *signal*: how much of it the rectifiers let through.
7. *proof*: another runtime gives what onnxruntime gives (:mod:`onnx_deconv.verification.proof`).

Each has one of three verdicts: ``ok``, ``failed``, or ``not covered`` where there is nothing to compare with.
"""

from onnx_deconv.verification.checks import (
    Check,
    Verdict,
    relative_error,
    same_but_for_rounding,
    same_outputs,
)
from onnx_deconv.verification.dependence import likeness_of_images, survival, told
from onnx_deconv.verification.neighbours import heeds_neighbours
from onnx_deconv.verification.pairs import check_pair, verify
from onnx_deconv.verification.proof import PROOF, Question, prove, proving, questions
from onnx_deconv.verification.random_feeds import random_feeds

__all__ = [
    "PROOF",
    "Check",
    "Question",
    "Verdict",
    "check_pair",
    "heeds_neighbours",
    "likeness_of_images",
    "prove",
    "proving",
    "questions",
    "random_feeds",
    "relative_error",
    "same_but_for_rounding",
    "same_outputs",
    "survival",
    "told",
    "verify",
]
