"""Compare the companion, Captum, and an override of every ReLU, on networks with random weights.

    python tools/compare_captum.py              # needs: pip install captum onnxscript torch

Prints the tables of docs/captum.md. A difference is the length of a - b as a share of the length of b, the
mean over several draws of the weights.
"""

import functools
import logging
import sys
from pathlib import Path

import click
import numpy as np
import onnx
import torch

from onnx_deconv import Explainer, Semantics

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))  # the networks are those of the tests

from networks import (
    FUNCTIONS,
    MODULES,
    by_autograd,
    by_captum,
    clear_picture,
    exported,
    randomised,
)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the length of a - b as a share of the length of b."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@functools.cache
def drawn(name: str, draw: int) -> tuple[torch.nn.Module, torch.Tensor, onnx.ModelProto]:
    """Return a network, a picture for it, and its ONNX file."""
    make, size = (MODULES | FUNCTIONS)[name]
    network = randomised(make(), draw)
    return network, clear_picture(network, size), exported(network, size, dynamo=True)


def differences(name: str, rules: str, draw: int) -> list[float]:
    """Return how far the companion and Captum are from the override, and Captum from the gradient."""
    network, x, proto = drawn(name, draw)
    top = int(network(x).argmax())
    semantics = Semantics(rules=rules, activations="relu", lrn="gradient")
    (ours,) = Explainer(proto, semantics, providers="cpu")(x.float().numpy(), top, seed="one")
    every, gradient = (by_autograd(network, x, top, table) for table in (rules, "gradient"))
    captums = by_captum(network, x, top, rules)
    return [
        difference(ours.reconstruction, every[0]),
        difference(captums, every),
        difference(captums, gradient),
    ]


def written(share: float) -> str:
    """Write a difference: rounding as a power of ten, anything more in percent."""
    rounding = 1e-4
    return f"{100 * share:.0f} %" if share > rounding else f"{share:.0e}" if share else "equal"


@click.command(help=__doc__)
@click.option("--draws", default=5, show_default=True, help="Networks of each kind.")
def main(draws: int) -> None:
    """Print the tables."""
    logging.disable(logging.WARNING)  # the exporter names every package that it could have used
    for rules, method in (("deconvnet", "Deconvolution"), ("guided", "GuidedBackprop")):
        differ = "onnx-deconv − all | Captum − all | Captum − gradient"
        print(f"\n| `{rules}`, `{method}` | its ReLUs are | {differ} |")
        print("|---|---|---|---|---|")
        for name in [*MODULES, *FUNCTIONS]:
            found = np.mean([differences(name, rules, draw) for draw in range(draws)], axis=0)
            kind = "modules" if name in MODULES else "modules but one" if "Dense" in name else "functions"
            print(f"| {' | '.join([name, kind, *map(written, found)])} |")


if __name__ == "__main__":
    main()
