"""What an fsspec instance of fs3 is: its arguments, its URLs, its connections."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem, get_loop
from fsspec.utils import stringify_path

from fs3.api.client import Client
from fs3.api.connect import TRANSPORTS, connect, connect_embedded
from fs3.api.file import File
from fs3.api.fsspec.arguments import check_path, check_size
from fs3.api.fsspec.client_pool import ClientPool
from fs3.api.fsspec.clusters import check_options, default_addresses, interpret_url, remember_cluster
from fs3.api.fsspec.draft import CreateOptions, Draft
from fs3.api.fsspec.fork import reset_loop_after_fork
from fs3.api.fsspec.transaction import FS3Transaction
from fs3.api.io.blocking import is_current_loop, run_on
from fs3.api.url import SCHEME, cluster_addresses
from fs3.base.errors import InvalidType, error
from fs3.base.ids import TableId
from fs3.base.secret import Secret
from fs3.base.status import Code
from fs3.core.files.layout import explain_unusable
from fs3.model.inode import Layout

reset_loop_after_fork()

_OPTIONS = {
    "cluster", "path", "transport", "verify", "auto_mkdir", "chunk_size", "stripe", "block_size",
    "token", "token_file", "tls_ca", "tls_cert", "tls_key",
    # Of fsspec itself.
    "asynchronous", "loop", "batch_size", "skip_instance_cache", "use_listings_cache", "listings_expiry_time", "max_paths",
    "default_block_size", "default_cache_type", "default_fill_cache",
}  # fmt: skip
"""Storage options that mean something."""
URL_CLUSTER = "cluster" if tuple(map(int, fsspec.__version__.split(".")[:2])) >= (2024, 12) else "url_cluster"
"""What a URL's cluster is called on its way from `_get_kwargs_from_urls` to the call that makes an instance."""


class _ClusterOfUrl(type(AsyncFileSystem)):  # type: ignore[misc]
    """Makes the cluster that a URL names the option `cluster`, before fsspec looks for an instance with the same options.

    fsspec calls with what `_get_kwargs_from_urls` has found and with the caller's options at once; before 2024.12 the same name
    in both is a TypeError, even where they say the same. So with such a version a URL's has a name of its own on the way.
    """

    def __call__(cls, *args: Any, **options: Any) -> Any:
        if URL_CLUSTER != "cluster" and URL_CLUSTER in options:
            named = options.pop(URL_CLUSTER)
            given = options.get("cluster")
            if given is None:
                options["cluster"] = named
            elif isinstance(given, str) and cluster_addresses(given) != cluster_addresses(named):
                raise error(Code.INVALID, f"cluster is {given!r}, and the URL names {named!r}")
        if isinstance(options.get("token"), str):
            options["token"] = Secret(options["token"])  # fsspec keeps the options, shows them and pickles them
        return super().__call__(*args, **options)


class FS3Base(AsyncFileSystem, metaclass=_ClusterOfUrl):  # type: ignore[misc]
    """Arguments, URLs and connections; the methods are in the classes that build on it."""

    protocol = SCHEME
    root_marker = "/"
    blocksize = 4 * 2**20
    transaction_type = FS3Transaction
    _pid: int

    def __init__(
        self,
        cluster: str | None = None,
        path: str | os.PathLike[str] | None = None,
        transport: str = "auto",
        verify: bool = True,
        auto_mkdir: bool = True,
        chunk_size: int | None = None,
        stripe: int | None = None,
        block_size: int | None = None,
        token: str | Secret | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        **options: Any,
    ) -> None:
        """No I/O happens here.

        `cluster`: managers as "host:port[,host:port]"; without it FS3_CLUSTER, or the only one this process has opened. `path`:
        instead of a cluster, a directory in which one runs embedded in this process. `transport`: auto, tcp, local or grpc.
        `verify`: check every byte read against its checksum. `auto_mkdir`: writing creates missing parents, as object stores seem
        to. `chunk_size` (bytes) and `stripe`: of files created through this instance; None: as their directory says.
        `block_size`: bytes gathered by written files. `token`, `token_file`: of the user who asks, see `fs3.connect`; no pickle
        has the token: a process that is not forked reads it from the file or from FS3_TOKEN. `tls_ca`, `tls_cert`, `tls_key`: see
        `fs3.connect`. TypeError for other options.
        """
        check_options(options, _OPTIONS)
        super().__init__(**options)
        if transport not in TRANSPORTS:
            raise error(Code.INVALID, f"transport is {transport!r}, not one of {', '.join(TRANSPORTS)}")
        if cluster is not None and not isinstance(cluster, str):
            raise InvalidType(f"cluster is a {type(cluster).__name__}, not a str")
        if path is not None:
            check_path(path)
            if not os.fspath(path):
                raise error(Code.INVALID, "path is empty; the directory of an embedded cluster is wanted")
        if cluster is not None and path is not None:
            raise error(Code.INVALID, f"both cluster {cluster!r} and path {os.fspath(path)!r} were given; use one of them")
        self.embedded = None if path is None else os.path.realpath(os.fspath(path))
        """Directory of the embedded cluster."""
        self.addresses = [] if path is not None else cluster_addresses(cluster) if cluster else default_addresses()
        """Of the managers, "host:port"."""
        remember_cluster(self.addresses)
        self.transport = transport
        self.verify = verify
        self.auto_mkdir = auto_mkdir
        self._layout = layout_of("", chunk_size, stripe)
        if block_size is not None:
            self.blocksize = block_size
        self._block_size = block_size
        if token and token_file:
            raise error(Code.INVALID, "token and token_file are given: one of them says who asks")
        secret = Secret(token) if isinstance(token, str) else token
        tls = tls_ca, tls_cert, tls_key
        make = _client_factory(self.embedded, ",".join(self.addresses), transport, verify, secret, token_file, tls)
        self._pool = ClientPool(make)
        weakref.finalize(self, ClientPool.close_all, self._pool).atexit = False

    # --- identity ----------------------------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        check_path(path)
        text: str = stringify_path(path)
        if text.startswith(f"{SCHEME}://"):
            text = interpret_url(text)[1]
        elif text.startswith(f"{SCHEME}::"):
            text = text[len(SCHEME) + 2 :]
        text = text.rstrip("/")
        return text if text.startswith("/") else f"/{text}"

    @staticmethod
    def _get_kwargs_from_urls(path: Any) -> dict[str, Any]:
        text = stringify_path(path)
        addresses = interpret_url(text)[0] if isinstance(text, str) and text.startswith(f"{SCHEME}://") else []
        return {URL_CLUSTER: ",".join(addresses)} if addresses else {}

    def unstrip_protocol(self, name: str) -> str:
        """The URL of a path. An embedded cluster has no address, so its URLs need `path=` to be opened."""
        return f"{SCHEME}://{','.join(self.addresses)}{self._strip_protocol(name)}"

    def to_dict(self, **options: Any) -> dict[str, Any]:
        """What makes this instance again, as fsspec writes it down; without the token."""
        shown = object.__new__(type(self))
        kept = {name: value for name, value in self.storage_options.items() if name != "token"}
        shown.__dict__ = {**self.__dict__, "storage_options": kept}
        made: dict[str, Any] = super(FS3Base, shown).to_dict(**options)
        return made

    @property
    def fsid(self) -> str:
        """Names the cluster by how it is reached."""
        return f"{SCHEME}_{self.embedded or ','.join(sorted(self.addresses))}"

    @property
    def loop(self) -> Any:
        """The event loop blocking calls run on: fsspec's, of this process."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            if not self.asynchronous:
                self._loop = get_loop()  # the parent's loop runs in the parent; fsspec has forgotten its own as well
        return self._loop

    async def _client(self) -> Client:
        return self._pool.get_nowait() or await self._pool.get()

    def _client_for_blocking(self) -> Client | None:
        """The client of the loop that blocking calls run on, when it is connected and the caller may block."""
        loop = self.loop
        return None if loop is None or is_current_loop(loop) else self._pool.get_nowait(loop)

    async def aclose(self) -> None:
        """Disconnect on this event loop; the next call connects again."""
        await self._pool.aclose()

    def close(self) -> None:
        """Disconnect; the next call connects again."""
        run_on(self.loop, self.aclose())

    def invalidate_cache(self, path: str | None = None) -> None:
        """Nothing is cached."""

    # --- opening and creating ------------------------------------------------------------------------------------------

    def _open_reading_blocking(self, path: str) -> File:
        client = self._client_for_blocking()
        file = None if client is None else client.open_directly(self._strip_protocol(path))
        if file is None:
            file = run_on(self.loop, self._open_reading(path))
        return file

    async def _open_reading(self, path: str) -> File:
        return await (await self._client()).small_files.open(self._strip_protocol(path))

    async def _open_named(self, path: str, mode: str, how: CreateOptions) -> tuple[Client, File]:
        """An existing file to change in place ("r+"), or one to append to ("a"), which is created when it is missing."""
        client = await self._client()
        if mode == "r+":
            return client, await client.open(path, mode)
        return client, await client.open(path, mode, how.layout, make_parents=how.make_parents)

    def _creation(
        self, path: str, exclusive: bool = False, chunk_size: int | None = None, stripe: int | None = None
    ) -> CreateOptions:
        return CreateOptions(exclusive, self.auto_mkdir, layout_of(path, chunk_size, stripe) or self._layout)

    async def _begin_draft(self, path: str, how: CreateOptions) -> Draft:
        return await Draft.begin(await self._client(), path, how)

    async def _prepare_draft(self, path: str, how: CreateOptions, parents_now: bool = False) -> Draft:
        return await Draft.prepare(await self._client(), path, how, parents_now=parents_now)

    async def _publish_or_defer(self, draft: Draft) -> None:
        """Publish, or leave that to the transaction that is under way."""
        if self._intrans:
            self.transaction.files.append(_DeferredPublish(self, draft))
        else:
            await draft.publish(make_parents=True)


class _DeferredPublish:
    """A written file whose name waits for the end of a transaction."""

    def __init__(self, fs: FS3Base, draft: Draft) -> None:
        self._fs = fs
        self._draft = draft

    def commit(self) -> None:
        """Give it its name."""
        run_on(self._fs.loop, self._draft.publish())

    def discard(self) -> None:
        """Let it vanish."""
        run_on(self._fs.loop, self._draft.discard())


def layout_of(path: str, chunk_size: int | None, stripe: int | None) -> Layout | None:
    """What is asked for of a new file or directory; None when nothing is. InvalidArgument, InvalidType name `path`."""
    if chunk_size is None and stripe is None:
        return None
    for name, value in (("chunk_size", chunk_size), ("stripe", stripe)):
        check_size(value, name, path)
        if value is not None and not 0 <= value < 1 << 32:
            raise error(Code.INVALID, f"{name} is {value}, not from 0 to {(1 << 32) - 1}", path or None)
    layout = Layout(TableId(0), int(chunk_size or 0), int(stripe or 0))
    if unusable := explain_unusable(layout):
        raise error(Code.INVALID, unusable, path or None)
    return layout


def _client_factory(
    embedded: str | None,
    addresses: str,
    transport: str,
    verify: bool,
    token: Secret | None,
    token_file: str | os.PathLike[str] | None,
    tls: tuple[str | None, str | None, str | None],
) -> Callable[[], Coroutine[Any, Any, Client]]:
    """How a pool makes a client. It holds no reference to the filesystem, which would keep that alive."""
    if embedded is not None:
        return lambda: connect_embedded(embedded, verify=verify)
    ca, cert, key = tls
    return lambda: connect(
        addresses,
        transport=transport,
        verify=verify,
        token=token,
        token_file=token_file,
        tls_ca=ca,
        tls_cert=cert,
        tls_key=key,
    )
