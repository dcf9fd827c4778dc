"""``python -m onnx_deconv`` is ``onnx-deconv``."""

import os
import signal


def _stop(*_: object) -> None:
    """Stop while nothing has begun but imports, which a traceback would be about."""
    os._exit(130)


signal.signal(signal.SIGINT, _stop)  # now: what follows is the import of all the rest


def main() -> None:
    """Run the command line."""
    import warnings  # noqa: PLC0415

    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of a picture is said in one line
    from onnx_deconv.cli import main as program  # noqa: PLC0415  (it takes time)

    try:
        program()
    except KeyboardInterrupt:  # asked while handlers were put in place or back
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
