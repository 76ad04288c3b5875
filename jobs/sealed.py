"""Variables for a job, sealed on the way.

Ray writes the values of a job's `env_vars` into its logs and gives them out with the job's details. So they
travel encrypted, with a key that is derived from the cluster's token: both sides have it, and whoever has it
may run code on the cluster anyway. Driver and workers open them when they start.
"""

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SEALED = "DREAMER_SEALED_VARIABLES"
OPEN_SEALED = "jobs.sealed.open_sealed"  # what Ray calls at the start of each worker, by name
TOKEN_FILE = Path.home() / ".ray" / "auth_token"
TOKEN_HELP = (
    "Ray's token is taken from RAY_AUTH_TOKEN, from the file that RAY_AUTH_TOKEN_PATH names, or from "
    f"{TOKEN_FILE}; it must be the one that the head was started with."
)


class SealError(RuntimeError):
    """Variables that cannot be sealed, or not be opened; the message says what to do."""


def seal(names: Sequence[str]) -> str:
    """The variables of this process, encrypted. Raises SealError when one is not set, or no token is."""
    if given := [name.partition("=")[0] for name in names if "=" in name]:
        raise SealError(f"--env {given[0]}: give the name alone, and export the value")
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise SealError(f"--env: {', '.join(missing)} is not set here: export it, or leave the option out")
    values = {name: os.environ[name] for name in names}
    token = cluster_token()
    if token is None:
        raise SealError(f"--env needs a cluster with a token, which values are sealed with. {TOKEN_HELP}")
    return _cipher(token).encrypt(json.dumps(values).encode()).decode()


def open_sealed() -> None:
    """Put a job's variables into the environment of this process."""
    from cryptography.fernet import InvalidToken

    token, sealed = cluster_token(), os.environ[SEALED]
    try:
        values = json.loads(_cipher(token or "").decrypt(sealed.encode()))
    except InvalidToken:
        found = "no token" if token is None else "another token"
        raise SealError(
            f"the job's variables cannot be opened: this node has {found}, not what sealed them. {TOKEN_HELP}"
        ) from None
    os.environ.update(values)


def cluster_token() -> str | None:
    """Ray's token, from where Ray takes it."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE).expanduser()
    return file.read_text().strip() if file.is_file() else None


def _cipher(token: str) -> Any:
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"dreamer: variables of a job")
    return Fernet(base64.urlsafe_b64encode(derive.derive(token.encode())))
