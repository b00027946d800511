"""`mlops serve`: options in, banner out; the server itself is `mlops_local.server`."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import click

from mlops_local.cli import diagnostics
from mlops_local.cli.context import Settings

if TYPE_CHECKING:
    from mlops_local.services.serve import Serving

LOCAL = ("127.0.0.1", "localhost", "::1")


@click.command(
    epilog="\b\nExamples:\n  mlops serve\n  mlops serve delay@challenger --port 8502\n  mlops serve delay@3 --host 0.0.0.0"
)
@click.argument("reference", metavar="[MODEL[@ALIAS]]", default="")
@click.option("--host", envvar="MLOPS_HOST", metavar="ADDRESS", help="Where to listen (127.0.0.1; [serve] host).")
@click.option(
    "-p", "--port", type=click.IntRange(0, 65535), envvar="MLOPS_PORT", help="Port (8501; [serve] port); 0 takes a free one."
)
@click.option("--allow-breaking", is_flag=True, help="Also swap to a version that refuses requests the served one answers.")
@click.pass_obj
def serve(settings: Settings, reference: str, host: str | None, port: int | None, allow_breaking: bool) -> None:
    """Answer predictions over HTTP until stopped with ^C.

    Serves a model's champion, or MODEL@ALIAS, or one pinned version (MODEL@3). When the alias moves to another version, that
    one is loaded beside, verified, and swapped in without a failed request; one that cannot be served never replaces the old.
    """
    from mlops_local import __version__
    from mlops_local.services import crash
    from mlops_local.services import serve as services

    project = settings.project()
    wanted = project.config.serve
    target = services.choose(project.layout, reference, configured=wanted.model)
    from mlops_local.server import process

    voice = process.Voice(
        say=diagnostics.say,
        warn=diagnostics.warn,
        record=lambda text: str(crash.record(project.root, text, version=__version__) or "not kept"),
    )
    chosen = host or wanted.host
    if chosen not in LOCAL:
        diagnostics.warn(
            f"listening on {chosen}: there is no password, whoever reaches this machine can ask and see the metrics"
        )
    process.run(
        project.layout,
        target,
        host=chosen,
        port=wanted.port if port is None else port,
        voice=voice,
        on_ready=banner,
        allow_breaking=allow_breaking,
    )
    diagnostics.say("stopped")


def banner(serving: Serving, url: str) -> None:
    """Say what is served, how good it is, where, and how to ask."""
    version = serving.version
    interval = "" if version.low is None or version.high is None else f" (95 %: {version.low:.4f} to {version.high:.4f})"
    diagnostics.say(f"serving {version.id}, made by {version.candidate}, {version.metric} {version.value:.4f}{interval}")
    diagnostics.say(f"        {url}/predict   also: /health /ready /metrics /v1/models/{version.model}")
    diagnostics.say("ask it: " + example(serving, url))
    diagnostics.say("stop:   ^C")


def example(serving: Serving, url: str) -> str:
    """A command that asks for a real row and works when pasted."""
    row = json.dumps(serving.example, ensure_ascii=False)
    return f"curl -s {url}/predict -d {shlex.quote(row)}"
