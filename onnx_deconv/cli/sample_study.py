"""What a model's inputs get on the command line: files, one for each sample, and what all samples share."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import click
import numpy as np

from onnx_deconv.atlas.archives import Load
from onnx_deconv.atlas.images import images_of, is_collection
from onnx_deconv.atlas.stored import is_uri
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.fixed_inputs import with_inputs
from onnx_deconv.attribution.samples import Reader, Sample
from onnx_deconv.attribution.shown import ShownPhoto
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.fixed_inputs import given_inputs, values_of
from onnx_deconv.cli.image_options import ImageOptions, tell_assumed_preset
from onnx_deconv.cli.model_options import ModelOptions
from onnx_deconv.cli.options import changed, option, parse_numbers, whole
from onnx_deconv.cli.pictures import find_files
from onnx_deconv.cli.records import made_by
from onnx_deconv.compiler.package import is_pair
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import (
    NUMBER_SUFFIXES,
    SUFFIXES,
    Source,
    has_fourth_band,
    holds_numbers,
    takes_pictures,
)
from onnx_deconv.model import Model

_BAND_FILES = NUMBER_SUFFIXES | {".tif", ".tiff"}


@dataclass(frozen=True)
class InputOptions:
    """What the model's inputs get, besides the files at the end of the command."""

    given: Annotated[
        Sequence[tuple[str, Sequence[str]]],
        given_inputs(
            "What an input of the model gets: a picture, an .npy, .npz or sound file, one or more numbers, "
            "true or false. May be repeated, for one input too: each file is a band of it then. IMAGE is for "
            "the input that is not given here.",
        ),
    ] = ()
    bands: Annotated[
        Sequence[int] | None,
        option(
            "--bands",
            "The channels to draw as red, green and blue, from 0, of an input that is no photograph.  "
            "[default: the first three]",
            callback=parse_numbers(int),
            metavar="R,G,B",
        ),
    ] = None
    page: Annotated[
        int,
        whole("--page", "The page of a TIFF, or the frame of an animation, from 0.", least=0),
    ] = 0

    def with_flags(self, path: Path, run: ModelOptions) -> tuple[Path | Model, Mapping[str, Any]]:
        """Return the model in which flags are what is given for them, and these.

        They decide what is computed at all, such as whether a Dropout drops, which rules have to know before.
        """
        numbers = {n: v for n, v in values_of(self.given).items() if isinstance(v, np.ndarray) and not v.ndim}
        if not numbers or is_pair(path):
            return path, {}
        model = run.load(path)
        given = {n: v for n, v in numbers.items() if n in model.inputs and model.input_dtype(n) == np.bool_}
        reader = Reader(model, {})
        flags = {name: reader.parts(name, value)[0].array for name, value in given.items()}
        return (with_inputs(model, flags) if flags else model), given

    def study(
        self,
        console: Console,
        explainer: Explainer,
        images: ImageOptions,
        flags: Mapping[str, Any] = MappingProxyType({}),
    ) -> "SampleStudy":
        """Find out how what is given becomes the model's inputs, apart from flags that are in the model."""
        if self.bands is not None and len(self.bands) not in (1, 3):
            raise click.UsageError("--bands: name one channel, or three")
        model = explainer.model
        given = {name: value for name, value in values_of(self.given).items() if name not in flags}
        if unknown := [name for name in given if name not in model.inputs]:
            raise InputError(f"--input {unknown[0]}: the model's inputs are {', '.join(model.inputs)}")
        found = {
            name: images.preprocess_of(model, name, console)
            for name in model.inputs
            if takes_pictures(model, name, images.layout) and not isinstance(given.get(name), np.ndarray)
        }
        self._refuse_idle_choices(
            images, any_photographs=bool(found), all_photographs=len(found) == len(model.inputs)
        )
        assumed = next((each for _, each in found.values() if each is not None), None)
        how = {name: preprocess for name, (preprocess, _) in found.items()}
        reader = Reader(model, how, assumed, self.bands, self.page)
        left = [name for name in model.inputs if name not in given]
        return SampleStudy(console, explainer, reader, given, left, flags)

    def _refuse_idle_choices(
        self, images: ImageOptions, *, any_photographs: bool, all_photographs: bool
    ) -> None:
        """Make sure that each choice about photographs, or about other inputs, is for an input."""
        if self.bands is not None and all_photographs:
            raise click.UsageError("--bands: the model takes photographs alone, whose colours are drawn")
        idle = [name for name in changed(images) if name != "--layout"]  # which tells what takes photographs
        if idle and not any_photographs:
            raise click.UsageError(f"{', '.join(idle)}: no input of the model takes photographs")


@dataclass(frozen=True)
class SampleStudy:
    """A model ready to explain, and how files become its inputs.

    Attributes
    ----------
    console
        Where warnings go.
    explainer
        For the model.
    reader
        Makes samples.
    given
        What inputs get in every sample.
    left
        The other inputs: there is one of them where files are the command's arguments.
    flags
        What is in the model already.
    stored
        What reads the photographs that are in archives, tables or buckets, by their names.
    """

    console: Console
    explainer: Explainer
    reader: Reader
    given: Mapping[str, Any]
    left: Sequence[str]
    flags: Mapping[str, Any] = field(default_factory=dict)
    stored: dict[str, Load] = field(default_factory=dict)

    @property
    def own_sizes(self) -> bool:
        """Whether samples may differ in size, so that each is explained alone."""
        return len(self.reader.pictures) != len(self.explainer.model.inputs) or any(
            how.size is None for how in self.reader.pictures.values()
        )

    def find(self, arguments: Sequence[str]) -> list[str]:
        """Name the files to explain; where all inputs are given, name the results.

        A preset that is assumed for photographs among them is warned of.

        Raises
        ------
        InputError
            If there are files for no input, or for several, or none for one.
        """
        found = self._found(arguments)
        given = [str(each) for each in self.given.values() if isinstance(each, Path)]
        if not all(map(holds_numbers, [*found, *given])):
            tell_assumed_preset(self.console, self.reader.assumed)
        return found

    def _found(self, arguments: Sequence[str]) -> list[str]:
        names = ", ".join(self.left)
        if not self.left:
            if arguments:
                raise InputError(f"{arguments[0]}: every input has its --input, so leave this out")
            files = [str(v) for v in self.given.values() if isinstance(v, Path)]
            return files[:1] or [next(iter(self.given))]
        if len(self.left) > 1 or not arguments:
            types = ", ".join(f"{name} {self.explainer.model.type_of(name)}" for name in self.left)
            which = "all of them, or all but the one that IMAGE is for" if len(self.left) > 1 else "it"
            example = f"--input {self.left[-1]}=FILE, or a number in place of the file"
            raise InputError(f"the model takes {types}: give {which}, as in {example}")
        if names not in self.reader.pictures:
            return [*map(str, find_files(arguments, _BAND_FILES))]
        collections = [each for each in arguments if is_collection(each)]
        for each in collections:
            self.stored.update(_stored(each))
        others = [each for each in arguments if each not in collections]
        return [*self.stored, *(map(str, find_files(others, SUFFIXES)) if others else ())]

    def read(self, name: str) -> Sample:
        """Make the sample of a file.

        Raises
        ------
        InputError
            If it cannot be read, does not fit, or holds several samples.
        """
        given = dict(self.given) | dict.fromkeys(self.left, self._given(name))
        samples = self.reader.samples(given)
        if len(samples) != 1:
            many = next((k for k, v in given.items() if len(self.reader.parts(k, v)) > 1), None)
            file = name if many in self.left else f"--input {many}"
            raise InputError(f"{file}: holds {len(samples)} samples: give one in each file")
        for input_name, shown in samples[0].shown.items():
            file = given[input_name]
            is_file = isinstance(file, Path) and not holds_numbers(file)
            four = isinstance(shown, ShownPhoto) and "A" in shown.channels
            if is_file and four and not has_fourth_band(file):
                self.console.warn(
                    f"{file}: has no fourth band, so the model's fourth channel is fed 255 everywhere"
                )
        return samples[0]

    def _given(self, name: str) -> Path | Source:
        path = Path(name)
        return Source([self.stored[name]()], name=path.name) if name in self.stored else path

    def made_by(self) -> dict[str, Any]:
        """Return what a result depends on, for its record."""
        how = self.reader.pictures
        only = next(iter(how.values())) if len(how) == 1 else None
        made = made_by(self.explainer, only)
        if len(how) > 1:
            made["preprocess"] = {name: vars(each) for name, each in how.items()}
        if told := {**self.given, **self.flags}:
            made["inputs"] = {name: str(value) for name, value in told.items()}
        chosen = {"bands": self.reader.bands, "page": self.reader.page}
        return made | {name: value for name, value in chosen.items() if value}


def _stored(source: str) -> Iterator[tuple[str, Load]]:
    """Yield the photographs of an archive, a table or a bucket, with their names."""
    images = images_of(source, one_by_one=True)
    if images.count is None:
        how = "is read from its beginning to its end, which suits 'atlas build' alone: unpack it"
        raise InputError(f"{images.name}: {how}")
    is_picture = os.path.splitext(images.name)[1].lower() in SUFFIXES  # noqa: PTH122 - perhaps a URI
    for name, load in images:
        if is_picture:
            yield images.name, load
        elif is_uri(source):
            yield f"{images.name.rstrip('/')}/{name}", load
        else:
            yield str(Path(images.name, name)), load
