"""The options of commands that serve: where they listen, and how much they let callers ask."""

import os
from dataclasses import dataclass
from typing import Annotated

from onnx_deconv.cli.options import option, whole
from onnx_deconv.serving import Address, Limits

TOKEN = "ONNX_DECONV_TOKEN"  # noqa: S105 - the name of a variable
_PORTS = 65535
_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class AddressOptions:
    """Where a server listens."""

    host: Annotated[
        str,
        option(
            "--host",
            "The address to listen on. Addresses that other machines can reach need a token, in the "
            f"environment variable {TOKEN}.",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, whole("--port", "The port to listen on; 0 for a free one.", least=0, most=_PORTS)
    ] = 8000
    open: Annotated[
        bool,
        option(
            "--open",
            "Answer other machines without a token, as behind a proxy that asks for one.",
            is_flag=True,
        ),
    ] = False

    def address(self) -> Address:
        """Return the address, with the token of the environment; refuse one that is open by mistake.

        Raises
        ------
        InputError
            If it is.
        """
        address = Address(self.host, self.port, os.environ.get(TOKEN, ""))
        address.check(open_to_all=self.open)
        return address


@dataclass(frozen=True)
class LimitOptions:
    """How much callers may ask of a server."""

    body: Annotated[
        int,
        whole(
            "--max-body", "The largest request, in MiB; larger ones are answered 413.", least=1, metavar="MIB"
        ),
    ] = Limits.body // _MEBIBYTE
    pixels: Annotated[
        int,
        whole("--max-pixels", "The most pixels of a photograph.", least=1),
    ] = Limits.pixels
    seconds: Annotated[
        int,
        whole("--timeout", "The seconds that a request may take; slower ones are answered 504.", least=1),
    ] = int(Limits.seconds)
    waiting: Annotated[
        int,
        whole("--queue", "How many requests may be open; the next are answered 429.", least=1),
    ] = Limits.waiting
    batch: Annotated[
        int,
        whole("--max-batch", "How many images run at once, at most.", least=1),
    ] = Limits.batch
    runs: Annotated[
        int,
        whole("--runs", "How many runs of models go on at once; one takes all cores.", least=1),
    ] = Limits.runs

    def limits(self) -> Limits:
        """Return the limits."""
        return Limits(self.body * _MEBIBYTE, self.pixels, self.seconds, self.waiting, self.batch, self.runs)
