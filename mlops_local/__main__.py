"""Where `mlops` and `python -m mlops_local` begin: from here on ^C ends in a line, not in a traceback."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Load the command line, which is most of a short command's life, and run it."""
    try:
        from mlops_local.cli import ending  # noqa: PLC0415  (within the block that sees ^C)

        ending.at_once()
    except KeyboardInterrupt:
        import os  # noqa: PLC0415  (there since the interpreter began)

        os.write(2, b"error: interrupted\n")
        os._exit(130)
    from mlops_local.cli.main import main as run  # noqa: PLC0415  (not before somebody listens)

    run()


if __name__ == "__main__":
    main()
