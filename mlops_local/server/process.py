"""The life of a server process: take the port, load the model, answer, follow the ledger, stop when told.

The event loop only answers. The ledger, the loading of versions and everything else that may wait happens in one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
import uvloop

from mlops_local.domain.errors import UsageError
from mlops_local.server import limits
from mlops_local.server.app import App
from mlops_local.server.metrics import Metrics
from mlops_local.services import serve
from mlops_local.services.following import Swap, Watcher
from mlops_local.services.serve import Serving, Target
from mlops_local.store.layout import Layout

Say = Callable[[str], None]
_REPORTS = 20
"""Different failures of a model written down before only the counters go on."""


@dataclass(frozen=True)
class Voice:
    """How the process talks: `say` for news, `warn` for what somebody should look at, `record` keeps a traceback."""

    say: Say
    warn: Say
    record: Callable[[str], str]
    """Keeps a text and returns where."""


def run(
    layout: Layout,
    target: Target,
    *,
    host: str,
    port: int,
    voice: Voice,
    on_ready: Callable[[Serving, str], None],
    allow_breaking: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        layout: the project's store.
        target: what to serve.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        voice: how to talk.
        on_ready: told what is served and where, once requests are answered.
        allow_breaking: also swap to versions that refuse requests the served one answers.

    Raises:
        UsageError: the address cannot be listened on, or the target means no version.
        IntegrityError: the version may not serve and nothing else does.
    """
    with contextlib.closing(listen(layout, host, port)) as sock:
        serving = serve.first(layout, target)
        metrics = Metrics()
        app = App(metrics, _Reports(voice))
        app.put(serving)
        bound = sock.getsockname()[1]
        watcher = Watcher(
            layout,
            target,
            serving,
            port=bound,
            on_swap=lambda swap: _swapped(app, voice, watcher, swap),
            allow_breaking=allow_breaking,
        )
        stop = threading.Event()
        follower = threading.Thread(target=_follow, args=(watcher, stop, voice), name="mlops-ledger", daemon=True)

        def started() -> None:
            follower.start()
            on_ready(serving, _url(host, bound))

        server = _Server(_config(app), app, started)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(server, sock))
        stop.set()
        if follower.is_alive():
            follower.join()
            watcher.record("stopped", watcher.serving.version.id)
        app.close()


def listen(layout: Layout, host: str, port: int) -> socket.socket:
    """A listening socket. Raises UsageError saying who has the port and what to do."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise UsageError(f"cannot listen on '{host}': {error.strerror or error}", hint="pass --host 127.0.0.1") from error
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)  # now, not later: of two servers that both bound, only one may find out by listening
    except OSError as error:
        sock.close()
        raise _unusable(layout, host, port, error) from error
    sock.set_inheritable(False)
    return sock


def _unusable(layout: Layout, host: str, port: int, error: OSError) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        who = serve.holder(layout, port)
        free = _free_port(host, port)
        hint = f"pass --port {free}, which is free" if free else "pass another --port, or --port 0 for any free one"
        return UsageError(f"port {port} is taken" + (f" by {who}" if who else ""), hint=hint + ", or stop the other one")
    if error.errno == errno.EACCES:
        return UsageError(f"port {port} needs more rights than this user has", hint="pass a --port of 1024 or higher")
    return UsageError(f"cannot listen on {host}:{port}: {error.strerror}", hint="pass --host 127.0.0.1")


def _free_port(host: str, port: int) -> int:
    for candidate in range(port + 1, min(port + 50, 65536)):
        with contextlib.suppress(OSError), contextlib.closing(socket.socket(_family(host))) as sock:
            sock.bind((host, candidate))
            return candidate
    return 0


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _config(app: App) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a client's nonsense is counted, not told to the operator
    return uvicorn.Config(
        app,
        http=limits.LimitedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.CONNECTIONS,
        timeout_keep_alive=limits.KEEP_ALIVE_S,
        timeout_graceful_shutdown=limits.DRAIN_S,
    )


class _Server(uvicorn.Server):
    """uvicorn's server, except that we say when it begins, when it ends, and what a signal means."""

    def __init__(self, config: uvicorn.Config, app: App, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_serve`: uvicorn would raise them again after the last request, before `stopped` is recorded."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop being ready, then let what is under way end."""
        self._app.draining = True
        await super().shutdown(sockets)

    def told(self) -> None:
        """Stop; told twice, do not wait for requests under way."""
        self.force_exit = self.should_exit
        self.should_exit = True


async def _serve(server: _Server, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.told)
    sweeper = asyncio.create_task(limits.sweep(server.server_state.connections))
    try:
        await server.serve(sockets=[sock])
    finally:
        sweeper.cancel()


def _follow(watcher: Watcher, stop: threading.Event, voice: Voice) -> None:
    watcher.record("deployed", watcher.serving.version.id)
    while not stop.is_set():
        try:
            watcher.run(stop)
        except Exception as error:  # noqa: BLE001  (a thread that ends would leave a server that never swaps again)
            place = voice.record("".join(traceback.format_exception(error)))
            voice.warn(f"a bug in mlops while following the ledger: {type(error).__name__}: {error} (traceback: {place})")
            stop.wait(5.0)


def _swapped(app: App, voice: Voice, watcher: Watcher, swap: Swap) -> None:
    if not swap.result:
        voice.warn(swap.reason)
        return
    app.metrics.swaps.labels(swap.result).inc()
    app.metrics.swap_seconds.observe(swap.seconds)
    if swap.serving is not None:
        app.put(swap.serving)
        voice.say(f"now serving {swap.version} (loaded, verified and warmed in {swap.seconds:.1f} s)")
    else:
        voice.warn(f"{swap.reason}; {watcher.serving.version.id} stays")
    app.swapped = {"result": swap.result, "id": swap.version, "at": serve.now(), "reason": swap.reason}


class _Reports:
    """Writes down each different failure of a model once: a client can repeat it a thousand times a second."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._known: set[tuple[str, str]] = set()

    def __call__(self, request: str, error: Exception) -> None:
        text = traceback.format_exception(error)
        key = (type(error).__name__, text[-2] if len(text) > 1 else "")
        if key in self._known or len(self._known) >= _REPORTS:
            return
        self._known.add(key)
        place = self._voice.record("".join(text))
        self._voice.warn(f"the model failed on request {request}: {type(error).__name__} (once told; traceback: {place})")
