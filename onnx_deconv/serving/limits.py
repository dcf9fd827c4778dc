"""What a server lets one caller ask of it, and where it listens."""

import ipaddress
from dataclasses import dataclass

from onnx_deconv.errors import InputError

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How much a server does at once.

    Attributes
    ----------
    body
        Bytes of a request, at most; larger ones are answered 413.
    pixels
        Pixels of a photograph, at most, before it is decoded; larger ones are answered 413.
    seconds
        How long a request may take, waiting included; slower ones are answered 504.
    waiting
        How many requests are worked on and wait, at most; the next are answered 429.
    batch
        How many images run at once, at most.
    runs
        How many runs of models go on at once. One run of a model takes all cores.
    """

    body: int = 16 * _MEBIBYTE
    pixels: int = 25_000_000
    seconds: float = 30.0
    waiting: int = 64
    batch: int = 8
    runs: int = 1


@dataclass(frozen=True)
class Address:
    """Where a server listens, and who may ask it.

    Attributes
    ----------
    host, port
        The address; port 0 takes a free one.
    token
        What callers have to show, as ``Authorization: Bearer TOKEN``; empty where everybody may ask.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on the same machine can reach it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def named(self) -> str:
        """The host and the port, as an address on the web names them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def check(self, *, open_to_all: bool = False) -> None:
        """Refuse to be reached from other machines without a token.

        Parameters
        ----------
        open_to_all
            Whether that is what was asked for.

        Raises
        ------
        InputError
            If it would be, or the token cannot stand in a header.
        """
        if self.token and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise InputError("the token has characters that no HTTP header can hold: use letters and digits")
        if not (self.is_loopback or self.token or open_to_all):
            raise InputError(
                f"{self.host} can be reached from other machines: set a token in the environment variable "
                "ONNX_DECONV_TOKEN, or give --open if something in front of the server asks for one"
            )
