"""Sheets as SVG and PDF: pictures keep their pixels, texts stay texts, curves curves."""

import base64
import io
import zlib
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Literal

from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing
from onnx_deconv.imaging.canvas import Colour, text_length
from onnx_deconv.imaging.layout import Mark, PlacedLine, PlacedPicture, PlacedText, SheetLayout
from onnx_deconv.imaging.picture import PathLike, Picture
from onnx_deconv.imaging.write import FORMATS, png, save_picture

_BASELINE = {"a": 0.8, "m": 0.3, "d": -0.2}
"""Where a text's baseline is below the point of it that is placed, as a share of its size: by the second
letter of the anchor, which is at the text's top, in its middle, or at its bottom."""


def svg(sheet: SheetLayout) -> bytes:
    """Write a sheet as SVG. Pixels stay sharp however large it is shown."""
    height, width = sheet.size
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, *map(_in_svg, sheet.marks), "</svg>", ""]).encode()


def _in_svg(mark: Mark) -> str:
    if isinstance(mark, PlacedPicture):
        pixels, (rows, columns) = base64.b64encode(png(mark.picture)).decode(), mark.picture.shape[:2]
        return (
            f'<image x="{mark.left:g}" y="{mark.top:g}" width="{columns}" height="{rows}" '
            f'style="image-rendering:pixelated" href="data:image/png;base64,{pixels}"/>'
        )
    if isinstance(mark, PlacedText):
        where = {"l": "", "m": ' text-anchor="middle"', "r": ' text-anchor="end"'}[mark.anchor[0]]
        return (
            f'<text x="{mark.left:g}" y="{mark.top + _BASELINE[mark.anchor[1]] * mark.size:g}" '
            f'font-family="sans-serif" font-size="{mark.size}"{where}>{escape(mark.text)}</text>'
        )
    if isinstance(mark, PlacedLine):
        points = " ".join(f"{x:g},{y:g}" for x, y in mark.points)
        return (
            f'<polyline points="{points}" fill="none" stroke="{_hex(mark.colour)}" '
            f'stroke-width="{mark.width:g}" stroke-linejoin="round" stroke-linecap="round"/>'
        )
    height, width = mark.bottom - mark.top, mark.right - mark.left
    paint = f'fill="none" stroke="{_hex(mark.colour)}" stroke-width="{mark.width:g}"'
    paint = paint if mark.fill is None else f'fill="{_hex(mark.fill)}"'
    return f'<rect x="{mark.left:g}" y="{mark.top:g}" width="{width:g}" height="{height:g}" {paint}/>'


def _hex(colour: Colour) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


def pdf(sheet: SheetLayout) -> bytes:
    """Write a sheet as one page of PDF, one point per pixel.

    Texts are in Helvetica, which every reader has; letters that it lacks become question marks.
    """
    height, width = sheet.size
    pictures = [mark.picture for mark in sheet.marks if isinstance(mark, PlacedPicture)]
    numbers = iter(range(len(pictures)))
    steps = [_in_pdf(mark, height, numbers) for mark in sheet.marks]
    names = [f"/P{number} {number + 6} 0 R" for number in range(len(pictures))]
    resources = f"<< /Font << /F 5 0 R >> /XObject << {' '.join(names)} >> >>"
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Resources {resources} "
        "/Contents 4 0 R >>".encode(),
        _stream("", "\n".join(steps).encode("cp1252", "replace")),
        font.encode(),
        *map(_pixels, pictures),
    ]
    return _file(objects)


def _in_pdf(mark: Mark, height: int, numbers: Iterator[int]) -> str:
    """Write the steps that draw a mark on a page of some height, where the vertical axis points up."""
    if isinstance(mark, PlacedPicture):
        rows, columns = mark.picture.shape[:2]
        return f"q {columns} 0 0 {rows} {mark.left:g} {height - mark.top - rows:g} cm /P{next(numbers)} Do Q"
    if isinstance(mark, PlacedText):
        base = height - mark.top - _BASELINE[mark.anchor[1]] * mark.size
        left = mark.left - {"l": 0, "m": 0.5, "r": 1}[mark.anchor[0]] * text_length(mark.text, mark.size)
        return f"BT /F {mark.size} Tf {left:g} {base:g} Td ({_escaped(mark.text)}) Tj ET"
    if isinstance(mark, PlacedLine):
        (first, *rest) = [f"{x:g} {height - y:g}" for x, y in mark.points]
        path = " ".join([f"{first} m", *(f"{point} l" for point in rest)])
        return f"q 1 J 1 j {mark.width:g} w {_shares(mark.colour)} RG {path} S Q"
    box = f"{mark.left:g} {height - mark.bottom:g} {mark.right - mark.left:g} {mark.bottom - mark.top:g} re"
    if mark.fill is None:
        return f"q {mark.width:g} w {_shares(mark.colour)} RG {box} S Q"
    return f"q {_shares(mark.fill)} rg {box} f Q"


def _shares(colour: Colour) -> str:
    return " ".join(f"{part / 255:.3g}" for part in colour)


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "()\\" else letter for letter in text)


def _pixels(picture: Picture) -> bytes:
    rows, columns = picture.shape[:2]
    return _stream(
        f"/Type /XObject /Subtype /Image /Width {columns} /Height {rows} /ColorSpace /DeviceRGB "
        "/BitsPerComponent 8",
        picture.tobytes(),
    )


def _stream(entries: str, content: bytes) -> bytes:
    packed = zlib.compress(content)
    head = f"<< {entries} /Length {len(packed)} /Filter /FlateDecode >>\nstream\n"
    return head.encode() + packed + b"\nendstream"


def _file(objects: list[bytes]) -> bytes:
    """Number the objects, and add the table of where each begins."""
    file = io.BytesIO()
    file.write(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(file.tell())
        file.write(f"{number} 0 obj\n".encode() + content + b"\nendobj\n")
    start, count = file.tell(), len(objects) + 1
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    file.write(f"xref\n0 {count}\n0000000000 65535 f \n{table}".encode())
    file.write(f"trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode())
    return file.getvalue()


SheetFormat = Literal["png", "jpg", "webp", "svg", "pdf"]
"""The formats that sheets are offered in."""
VECTOR = {".svg": svg, ".pdf": pdf}
"""What writes a sheet, by the file's suffix."""


def save_sheet(path: PathLike, sheet: SheetLayout) -> None:
    """Write a sheet in the format that the file's suffix names, completely or not at all.

    Parameters
    ----------
    path
        The file; its folder must exist. ``.svg`` and ``.pdf`` keep texts as texts; the other suffixes are
        those of :func:`~onnx_deconv.imaging.write.save_picture`.
    sheet
        The sheet.

    Raises
    ------
    InputError
        If the suffix is another, or the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in VECTOR:
        if suffix not in FORMATS:
            known = ", ".join([*FORMATS, *VECTOR])
            raise InputError(f"{path}: sheets are written as {known}; choose one of these suffixes")
        save_picture(path, sheet.picture())
        return
    content = VECTOR[suffix](sheet)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
