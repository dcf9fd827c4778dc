"""What kind of operator an operator is: one word per question that the rest of the package asks."""

from enum import Enum, auto


class Trait(Enum):
    """A property that several operators share.

    Rule tables may have a row for a trait; receptive fields and shapes have a default for some.
    """

    RECTIFIER = auto()
    """An activation that lets positive values pass, and negative ones less or not at all."""
    POINTWISE = auto()
    """Each element of the result depends on the elements at its own place alone, after broadcasting."""
    SQUASHING = auto()
    """A pointwise activation between two bounds, which is no rectifier: Sigmoid, Tanh."""
    PROBABILITY = auto()
    """Turns scores into probabilities; a class is explained before it."""
    LOGARITHM = auto()
    """Gives the logarithms of probabilities."""
    VIEW = auto()
    """The same numbers in another shape, order or type."""
    FILTER = auto()
    """A linear map by weights."""
    CONVOLUTION = auto()
    """A filter that slides over positions and leaves feature maps."""
    AFFINE = auto()
    """Scales or shifts by a second operand: arithmetic, batch normalisation at inference."""
    SWITCHES = auto()
    """Can tell where it found its maxima, by a second output."""
    POOL = auto()
    """Joins positions of one feature map."""
    GLOBAL = auto()
    """Each element of the result depends on all positions."""
    NORMALISATION = auto()
    """Standardises by statistics of the value itself; the result has the value's shape."""
    REDUCTION = auto()
    """Joins all elements along some axes."""
    QUANTISER = auto()
    """From real numbers to quantised ones, or back."""
    DEQUANTISER = auto()
    """A quantiser from quantised numbers back to real ones."""
    RANGE = auto()
    """Finds one range for all that it is given, so that images of a batch have it in common."""
    LIMIT = auto()
    """Limits from below or above and changes nothing else; may keep a variance from below zero, too."""
    COMBINATION = auto()
    """Pointwise, and a common last step where an exporter writes an activation as several nodes."""
    PLACEMENT = auto()
    """Writes values to given positions."""
    DISCONTINUOUS = auto()
    """Its value jumps, which its derivative does not tell."""
    NONNEGATIVE = auto()
    """Gives no negative numbers, whatever it is given."""
    KEEPS_SIGN = auto()
    """Gives no negative numbers where it is given none; so do views and pools."""
    PICK = auto()
    """Chooses among the elements of an input, or says which it chose."""
    JOIN = auto()
    """Puts its operands one after the other."""
    SHAPE_ONLY = auto()
    """Reads its input's shape, not its numbers."""
    REPEATS = auto()
    """Fills a shape with the numbers of its first input, or with one of its own where it takes none."""
    RESAMPLER = auto()
    """Draws a map at another size: each number is one of the map's, or a mean of some."""
    SUM = auto()
    """Adds up its operands, or elements, each with the same positive share."""
    LOCATED = auto()
    """Reads its first input where the others say, which get no signal."""
    RANDOM = auto()
    """Gives other numbers at each run."""


RECTIFIER = Trait.RECTIFIER
POINTWISE = Trait.POINTWISE
SQUASHING = Trait.SQUASHING
PROBABILITY = Trait.PROBABILITY
LOGARITHM = Trait.LOGARITHM
VIEW = Trait.VIEW
FILTER = Trait.FILTER
CONVOLUTION = Trait.CONVOLUTION
AFFINE = Trait.AFFINE
SWITCHES = Trait.SWITCHES
POOL = Trait.POOL
GLOBAL = Trait.GLOBAL
NORMALISATION = Trait.NORMALISATION
REDUCTION = Trait.REDUCTION
QUANTISER = Trait.QUANTISER
DEQUANTISER = Trait.DEQUANTISER
RANGE = Trait.RANGE
LIMIT = Trait.LIMIT
COMBINATION = Trait.COMBINATION
PLACEMENT = Trait.PLACEMENT
DISCONTINUOUS = Trait.DISCONTINUOUS
NONNEGATIVE = Trait.NONNEGATIVE
KEEPS_SIGN = Trait.KEEPS_SIGN
PICK = Trait.PICK
JOIN = Trait.JOIN
SHAPE_ONLY = Trait.SHAPE_ONLY
REPEATS = Trait.REPEATS
RESAMPLER = Trait.RESAMPLER
SUM = Trait.SUM
LOCATED = Trait.LOCATED
RANDOM = Trait.RANDOM
