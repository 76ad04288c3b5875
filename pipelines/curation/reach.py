"""What rows of a table may name: files below declared folders, and addresses of the public internet.

A table is made by others. Unless the recipe says otherwise, none of its rows can make a worker read a file
from elsewhere on the disk, spend its credentials on a bucket, or ask a server of the network it stands in.
"""

import asyncio
import ipaddress
import socket
import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pipelines.curation.verdicts import reason
from pipelines.recipe import DataSettings
from pipelines.storage import storage_path

WEB_SCHEMES = ("http", "https")
BUCKET_SCHEMES = ("s3", "gs")
REMOTE_SCHEMES = (*WEB_SCHEMES, *BUCKET_SCHEMES)
EVERY_NETWORK = ("0.0.0.0/0", "::/0")
# An IPv4 address in the last four bytes: RFC 6052, 2765 and 4291.
EMBEDDING = [ipaddress.ip_network(network) for network in ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")]
# Not public, though the registries, or those that this Python knows, do not say so.
NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # special purposes
        "168.63.129.16/32",  # Azure's own server in every virtual network
        "64:ff9b:1::/48",  # a network's own NAT64 (RFC 8215)
        "fec0::/10",  # site-local, which nobody gives out any more
    )
]


class PrivateAddressError(Exception):
    """A server that rows must not name. No OSError: those are tried again, as faults of the network."""


@dataclass(frozen=True)
class Reach:
    """Folders and prefixes of buckets that rows may name files in, and networks.

    Relative paths begin in the first folder, or of a table in a bucket in the first bucket.
    """

    folders: tuple[Path, ...]
    buckets: tuple[str, ...] = ()
    private_networks: tuple[str, ...] = ()
    begins_in_bucket: bool = False  # relative paths begin at the first bucket


def reach_of(data: DataSettings) -> Reach:
    """What a recipe allows the rows of its table."""
    root = data_root(data)
    in_bucket = is_remote(str(root))
    places = (str(root if in_bucket else root.absolute()), *data.more_roots)
    folders = tuple(Path(place) for place in places if not is_remote(place))
    buckets = tuple(place for place in places if is_remote(place))
    return Reach(folders, buckets, data.private_networks, in_bucket)


def data_root(data: DataSettings) -> Path:
    """Folder, or place in a bucket, that relative paths of the table resolve against."""
    if data.root is not None:
        return storage_path(data.root)
    table = storage_path(data.table)
    return table if table.is_dir() else table.parent


def is_remote(uri: str) -> bool:
    return urlsplit(uri).scheme in REMOTE_SCHEMES


def resolve_uri(uri: str, reach: Reach) -> tuple[str, str | None]:
    """(path or remote address, None), or (uri, reason) of one that is none or lies out of reach.

    Symbolic links are followed first. Of web addresses it says nothing: what a name stands for is known when
    it is asked (`client_of`).
    """
    try:
        if "\0" in uri:
            raise ValueError("it has a zero byte")
        parts = urlsplit(uri)
        if parts.scheme in WEB_SCHEMES:
            return uri, None
        if parts.scheme in BUCKET_SCHEMES:
            inside = any(_is_below(uri, root) for root in reach.buckets)
            return uri, None if inside else _outside(f"{parts.scheme}://{parts.netloc}")
        named = Path(unquote(parts.path)) if parts.scheme == "file" else Path(uri)
        if reach.begins_in_bucket and not named.is_absolute():
            return resolve_uri(f"{reach.buckets[0]}/{named.as_posix()}", reach)
        path = _as_stored(reach.folders[0] / named if reach.folders else named)  # absolute: stays as it is
        real = path.resolve()
        if not any(real.is_relative_to(folder.resolve()) for folder in reach.folders):
            return uri, _outside(str(real.parent))
        return str(path), None
    except (ValueError, OSError, RuntimeError) as error:  # a name too long for a file's, a circle of links
        return uri, reason("bad_address", str(error))


def _outside(root: str) -> str:
    return reason("outside_root", f"data.more_roots=[{root}] would allow it")


def _is_below(address: str, root: str) -> bool:
    above, below = (PurePosixPath(part.partition("://")[2]) for part in (root, address))
    same = urlsplit(address).scheme == urlsplit(root).scheme
    return same and ".." not in below.parts and below.is_relative_to(above)


def _as_stored(path: Path) -> Path:
    """The spelling on disk: tables are NFC here, file names may be NFD."""
    if path.exists():
        return path
    decomposed = Path(unicodedata.normalize("NFD", str(path)))
    return decomposed if decomposed.exists() else path


# ---------------------------------------------------------------- networks


@cache
def client_of(private_networks: tuple[str, ...]) -> Callable[..., Awaitable[Any]]:
    """Makes the aiohttp session of fsspec's HTTP file system; it connects to public servers and to these.

    It looks at the address that is connected to, however it was written, looked up or redirected to.
    """
    import aiohttp

    def checked_socket(address: Any) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        if not may_connect(host, private_networks):
            raise PrivateAddressError(f"{host} is not public; data.private_networks=[{host}] would allow it")
        return socket.socket(family, kind, protocol)

    async def client(loop: asyncio.AbstractEventLoop, **options: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(loop=loop, socket_factory=checked_socket)
        return aiohttp.ClientSession(connector=connector, loop=loop, **options)

    return client


def may_connect(host: str, private_networks: tuple[str, ...]) -> bool:
    """Whether an IP address is a public one, or of one of the networks."""
    written = ipaddress.ip_address(host.partition("%")[0])
    address = _plain(written)
    allowed = [ipaddress.ip_network(network, strict=False) for network in private_networks]
    if any(each in network for each in (written, address) for network in allowed):
        return True
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in NOT_PUBLIC)
    )


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Any:
    """The IPv4 address inside an IPv6 one that stands for it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and any(address in network for network in EMBEDDING):
        inner = ipaddress.IPv4Address(address.packed[-4:])
    return inner or address
