"""The options of commands that serve: where they listen, and how much they let callers ask."""

import os
from dataclasses import dataclass, replace
from typing import Annotated

from onnx_deconv.cli.options import changed, option, whole
from onnx_deconv.errors import InputError
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
class KServeOptions:
    """KServe's own SDK."""

    kserve: Annotated[
        bool,
        option(
            "--kserve",
            "Have KServe's SDK answer too: its older protocol (V1, :predict and :explain) at the same "
            "address, and gRPC. Needs the extra 'kserve'.",
            is_flag=True,
        ),
    ] = False
    grpc_port: Annotated[
        int,
        whole("--grpc-port", "The port for gRPC; 0 for a free one.", least=0, most=_PORTS),
    ] = 8081
    model_name: Annotated[
        str | None, option("--model_name", "The model's name, where MODEL gives none.", hidden=True)
    ] = None
    http_port: Annotated[int | None, whole("--http_port", "The port.", least=0, most=_PORTS, hidden=True)] = (
        None
    )
    predictor_host: Annotated[
        str | None, option("--predictor_host", "Not asked: the model is here.", hidden=True)
    ] = None
    workers: Annotated[
        int | None, whole("--workers", "Not heeded: --runs and --queue say it.", least=1, hidden=True)
    ] = None
    """The last four are what KServe's controller adds to the arguments of an explainer's container."""

    def addresses(self, address: Address) -> tuple[Address, Address | None]:
        """Return the addresses for HTTP, and for gRPC where it is wanted.

        Parameters
        ----------
        address
            As the options for it say.

        Raises
        ------
        InputError
            If the SDK's options are given, but not the SDK, or one port is to be both.
        """
        if not self.kserve:
            if idle := [name for name in changed(self) if name != "--kserve"]:
                raise InputError(f"{', '.join(idle)}: only with --kserve")
            return address, None
        if self.http_port is not None:
            address = replace(address, port=self.http_port)
        if address.port == self.grpc_port != 0:
            raise InputError(
                f"port {address.port} cannot be HTTP's and gRPC's: choose another by --grpc-port"
            )
        return address, replace(address, port=self.grpc_port)


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
