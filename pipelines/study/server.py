"""Serving a study until it is interrupted."""

import os
import socket
from collections.abc import Sequence

from pipelines.progress import stderr_console
from pipelines.study.app import create_app
from pipelines.study.plan import Study, StudyError
from pipelines.study.votes import VoteStore

LOOPBACK = ("127.0.0.1", "::1", "localhost")
EVERYWHERE = ("0.0.0.0", "::")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises StudyError for an address that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        unknown = isinstance(error, socket.gaierror)  # whose numbers are not the system's
        reason = error.strerror if unknown else os.strerror(error.errno or 0)
        raise StudyError(f"cannot serve at {host}:{port}: {reason}; choose with --host and --port") from error


def base_address(host: str, port: int, url: str | None = None) -> str:
    """What links begin with: `url` for a server that others reach by another name."""
    if url is not None:
        return url.rstrip("/")
    name = socket.gethostname() if host in EVERYWHERE else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def serve(study: Study, store: VoteStore, listening: socket.socket, links: Sequence[str]) -> None:
    """Say where the study is, and serve it until Ctrl-C."""
    import uvicorn

    console = stderr_console()

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    host = listening.getsockname()[0]
    if host not in LOOPBACK:
        say(f"warning: served at {host}: whoever has a link and reaches this machine can vote", "yellow")
    for number, link in enumerate(links, 1):
        say(f"rater {number}: {link}")
    say("Ctrl-C stops the server; links and votes stay.")
    config = uvicorn.Config(
        create_app(study, store),
        log_level="warning",
        access_log=False,  # it would show the tokens
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        return
