"""``python -m onnx_deconv`` is ``onnx-deconv``."""

import atexit
import os
import signal
import sys

_STOPPED = 130
_ended_by = list[object]()


def _stop(*_: object) -> None:
    """Stop while nothing has begun but imports, which a traceback would be about."""
    os._exit(_STOPPED)


for _name in ("SIGINT", "SIGTERM", "SIGHUP"):  # now: what follows is the import of all the rest
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), _stop)


@atexit.register
def _keep_the_exit_code() -> None:
    """End at once after a stop; this is registered before all the rest, and so is called last.

    Python itself would end like one killed by SIGINT where the interruption was raised in text that was
    executed, as data classes are made, though it was caught.
    """
    from contextlib import suppress  # noqa: PLC0415  (it was imported long before)

    if _STOPPED in _ended_by:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads any more
                stream.flush()
        os._exit(_STOPPED)


def main() -> None:
    """Run the command line."""
    import warnings  # noqa: PLC0415

    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of a picture is said in one line
    from onnx_deconv.cli import main as program  # noqa: PLC0415  (it takes time)

    try:
        program()
    except KeyboardInterrupt:  # asked while handlers were put in place or back
        _ended_by.append(_STOPPED)
        raise SystemExit(_STOPPED) from None
    except SystemExit as end:
        _ended_by.append(end.code)
        raise


if __name__ == "__main__":
    main()
