"""Sheets as SVG and PDF: pictures keep their pixels, texts stay texts."""

import base64
import io
import zlib
from html import escape
from pathlib import Path
from typing import Literal

from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing
from onnx_deconv.imaging.layout import SheetLayout
from onnx_deconv.imaging.picture import PathLike, Picture
from onnx_deconv.imaging.write import FORMATS, png, save_picture

_BASELINE = 0.8
"""Where a line's baseline is below its top, as a share of the text's size."""


def svg(sheet: SheetLayout) -> bytes:
    """Write a sheet as SVG. Pixels stay sharp however large it is shown."""
    height, width = sheet.size
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for top, left, picture in sheet.pictures:
        pixels = base64.b64encode(png(picture)).decode()
        lines.append(
            f'<image x="{left}" y="{top}" width="{picture.shape[1]}" height="{picture.shape[0]}" '
            f'style="image-rendering:pixelated" href="data:image/png;base64,{pixels}"/>'
        )
    for top, left, text in sheet.texts:
        lines.append(
            f'<text x="{left}" y="{top + _BASELINE * sheet.text_size:g}" font-family="sans-serif" '
            f'font-size="{sheet.text_size}">{escape(text)}</text>'
        )
    return "\n".join([*lines, "</svg>", ""]).encode()


def pdf(sheet: SheetLayout) -> bytes:
    """Write a sheet as one page of PDF, one point per pixel.

    Texts are in Helvetica, which every reader has; letters that it lacks become question marks.
    """
    height, width = sheet.size
    steps, names = [], []
    for number, (top, left, picture) in enumerate(sheet.pictures):
        rows, columns = picture.shape[:2]
        steps.append(f"q {columns} 0 0 {rows} {left} {height - top - rows} cm /P{number} Do Q")
        names.append(f"/P{number} {number + 6} 0 R")
    for top, left, text in sheet.texts:
        base = height - top - _BASELINE * sheet.text_size
        steps.append(f"BT /F {sheet.text_size} Tf {left} {base:g} Td ({_escaped(text)}) Tj ET")
    resources = f"<< /Font << /F 5 0 R >> /XObject << {' '.join(names)} >> >>"
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Resources {resources} "
        "/Contents 4 0 R >>".encode(),
        _stream("", "\n".join(steps).encode("cp1252", "replace")),
        font.encode(),
        *(_pixels(each.picture) for each in sheet.pictures),
    ]
    return _file(objects)


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
