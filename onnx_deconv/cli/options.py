"""Option groups: a frozen dataclass whose fields are click's options; a command gets one instance."""

import functools
import re
from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import click

Decorator = Callable[[Any], Any]
Callback = Callable[[click.Context, click.Parameter, Any], Any]


class Sectioned(click.Command):
    """A command whose help lists the options of each group under what the group is for."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of no group first."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for each in self.get_params(ctx):
            section = each.section if isinstance(each, _OfGroup) else "Options"
            record = each.get_help_record(ctx) if isinstance(each, click.Option) else None
            if record:
                sections.setdefault(section, []).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


class _OfGroup(click.Option):
    """An option of a group, which stands in the group's section of the help."""

    def __init__(self, *declarations: Any, section: str, **attributes: Any) -> None:
        super().__init__(*declarations, **attributes)
        self.section = section


class Option(NamedTuple):
    """A click option that stands in the annotation of a field."""

    name: str
    attributes: dict[str, Any]


def option(name: str, help: str, **attributes: Any) -> Option:  # noqa: A002
    """Describe the option of a field: ``top: Annotated[int, option("--top", "How many.")] = 9``.

    Parameters
    ----------
    name
        As on the command line.
    help
        What it does, for the command's help.
    **attributes
        As for :func:`click.option`; by default the default is the field's, and the choices are those of
        its Literal type.
    """
    return Option(name, {"help": help, **attributes})


def whole(name: str, help: str, *, least: int, most: int | None = None, **attributes: Any) -> Option:  # noqa: A002
    """Describe an option that takes a whole number within bounds."""
    return option(name, help, type=click.IntRange(least, most), **{"metavar": "N", **attributes})


def takes(name: str, group: type, *, without: Collection[str] = ()) -> Decorator:
    """Add a group's options to a command.

    Parameters
    ----------
    name
        The keyword argument of the command that gets the instance of the group.
    group
        A frozen dataclass whose fields are annotated with an :func:`option`. What its docstring says up to
        the first full stop or semicolon is the heading of its options in the command's help.
    without
        Fields whose options this command does not have; they keep their defaults.
    """
    declared = {each: found for each, found in _options(group).items() if each not in without}
    section = re.split("[.;]", group.__doc__ or "")[0]

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def collecting(*arguments: Any, **given: Any) -> Any:
            values = {each: given.pop(f"{name}_{each}") for each in declared}
            return command(*arguments, **given, **{name: group(**values)})

        made = [
            click.option(o.name, f"{name}_{each}", cls=_OfGroup, section=section, **o.attributes)
            for each, o in declared.items()
        ]
        return together(*made)(collecting)

    return decorate


def _options(group: type) -> dict[str, Option]:
    """Return the options of a group by field, with their defaults."""
    hints = get_type_hints(group, include_extras=True)
    found = {}
    for each in fields(group):
        (declared,) = hints[each.name].__metadata__
        attributes: dict[str, Any] = {}
        if each.default is not None and each.default != ():
            attributes = {"default": each.default, "show_default": each.default is not False}
        if choices := _choices(hints[each.name]):
            attributes["type"] = click.Choice(choices)
        found[each.name] = Option(declared.name, attributes | declared.attributes)
    return found


def _choices(hint: Any) -> tuple[str, ...]:
    """Return what a field of a Literal type may be."""
    inner = get_args(hint)[0]
    literal = next((one for one in (inner, *get_args(inner)) if get_origin(one) is Literal), None)
    return get_args(literal)


def changed(group: Any) -> dict[str, Any]:
    """Return the options of a group that are not at their defaults, by their names on the command line."""
    options = _options(type(group))
    given = (each.name for each in fields(group) if getattr(group, each.name) != each.default)
    return {options[name].name: getattr(group, name) for name in given}


def together(*options: Decorator) -> Decorator:
    """Join decorators into one; the first is the outermost."""
    return lambda command: functools.reduce(lambda decorated, one: one(decorated), reversed(options), command)


def parse_numbers(kind: type[float] | type[int], also: str = "") -> Callback:
    """Make a parser of numbers between commas, such as ``0.485,0.456,0.406``.

    Parameters
    ----------
    kind
        Of the numbers.
    also
        What else may be written, for the message.
    """

    def parse(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
        if value is None:
            return None
        try:
            return tuple(kind(part) for part in value.split(","))
        except ValueError:
            text = f"{value!r}: write {also}{'whole ' if kind is int else ''}numbers with commas between them"
            raise click.BadParameter(text, ctx, param) from None

    return parse


def parse_size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | str | None:
    """Parse ``224``, ``224x320`` (height first) or ``photo``."""
    if value is None or value == "photo":
        return value
    match = re.fullmatch(r"(\d{1,5})(?:[x,](\d{1,5}))?", value)
    if match is None:
        text = f"{value!r}: write 224, 224x320 (height first), or photo"
        raise click.BadParameter(text, ctx, param)
    return int(match[1]), int(match[2] or match[1])


def once(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Take the one value of an option that other commands repeat."""
    if len(values) > 1:
        raise click.BadParameter("this command takes one: give the option once", ctx, param)
    return values[0] if values else None
