"""Files and names: each client works in a directory of its own against a model of it, and looks at what the others have finished.

A request that was not answered may have happened or not; names it could have touched are left alone from then on.
"""

from __future__ import annotations

import asyncio

from fs3.api.client import Client
from fs3.base.errors import FS3Error, NotFound
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import KIB, SECOND
from fs3.sim.ring2.story import Story

BYTES_MAX = 160 * KIB


class FinishedFiles:
    """Files that are never changed again: path -> content. Whoever opens one must find all of it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}


def pattern(number: int, length: int) -> bytes:
    """Content that no other number has."""
    word = f"{number:x}.".encode()
    return (word * (length // len(word) + 1))[:length]


class FileWorkload:
    """One client's operations in its directory."""

    def __init__(self, number: int, client: Client, prng: Prng, finished: FinishedFiles, story: Story) -> None:
        self.root = f"/c{number}-{prng.below(1 << 16):x}"
        self.files: dict[str, bytes] = {}
        """Name -> content, as it must be now."""
        self.uncertain_names: dict[str, None] = {}
        """Names that may or may not be there, with any content."""
        self.touched_names: list[str] = []
        """Names that the operation under way may change; for ever when its process died."""
        self.unfinished: tuple[str, bytes] | None = None
        """A named file that is open for writing: its path, and what storage has acknowledged of it so far."""
        self._number = number
        self.client = client
        self._prng = prng
        self._finished = finished
        self._story = story
        self._names = 0
        self._has_root = False

    async def run(self, operations: int, think_ns: int) -> None:
        """Do so many operations."""
        prng = self._prng
        for _ in range(operations):
            await asyncio.sleep(prng.below(2 * think_ns + 1) / SECOND)
            await self._run_one(prng.below(100))

    async def _run_one(self, draw: int) -> None:
        names = list(self.files)
        touched: list[str] = []
        self.touched_names = touched
        self.unfinished = None
        try:
            if not self._has_root:
                await self.client.makedirs(self.root, exist_ok=True)
                self._has_root = True
            if draw < 35 or not names:
                await self._create(touched)
            elif draw < 50:
                await self._append(self._prng.pick(names), touched)
            elif draw < 65:
                await self.verify(self._prng.pick(names))
            elif draw < 75:
                await self._rename(self._prng.pick(names), touched)
            elif draw < 83:
                await self._unlink(self._prng.pick(names), touched)
            elif draw < 90:
                await self.verify_listing()
            else:
                await self._verify_other()
        except FS3Error as failure:
            self._story.say(f"client-{self._number}", f"files: {failure.code.name} {failure}")
            if touched and failure.code in (Code.EXISTS, Code.NOT_FOUND):
                # Its names are its own, and new ones are never used again.
                self._fail(f"an answer that cannot be true: {failure.code.name} {failure}")
            self.forget_touched()

    def forget_touched(self) -> None:
        """Nobody can tell any more what the operation under way has done."""
        for name in self.touched_names:
            self.files.pop(name, None)
            self.uncertain_names[name] = None
        self.touched_names.clear()

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _new_name(self) -> str:
        self._names += 1
        return f"f{self._names}"

    async def _create(self, touched: list[str]) -> None:
        prng = self._prng
        name = self._new_name()
        touched.append(name)
        content = pattern(self._number << 16 | self._names, prng.pick((0, 10, 5000, prng.below(BYTES_MAX))))
        keep = prng.chance(1, 3)
        if prng.chance(1, 3):
            file = await self.client.open_unnamed(self.root)
            await self._write(file, content, 0)
            await self.client.close(file, publish=self._path(name))
        else:
            file = await self.client.open(self._path(name), "x")
            self.unfinished = (self._path(name), b"")
            await self._write(file, content, 0)
            await self.client.close(file)
        if keep:
            self._finished.files[self._path(name)] = content
        else:
            self.files[name] = content
        touched.clear()
        self._log(f"created {name}, {len(content)} bytes")

    async def _append(self, name: str, touched: list[str]) -> None:
        before = self.files[name]
        more = pattern(self._number << 16 | self._names << 8 | len(before) & 255, self._prng.below(BYTES_MAX // 4))
        touched.append(name)
        appends = len(more) % 2 == 0
        file = await self.client.open(self._path(name), "a" if appends else "r+")
        if file.length != len(before):
            self._fail(f"{self._path(name)} was opened with {file.length} bytes, it was closed with {len(before)}")
        self.unfinished = (self._path(name), before)
        if appends:
            at = await self.client.append(file, more)
            if at != len(before):
                self._fail(f"{self._path(name)} had {len(before)} bytes, and what was appended to it is at {at}")
            self.unfinished = (self._path(name), before + more)
        else:
            await self._write(file, more, len(before))
        await self.client.close(file)
        self.files[name] = before + more
        touched.clear()
        self._log(f"appended {len(more)} bytes to {name}")

    async def _write(self, file: object, content: bytes, offset: int) -> None:
        begin = 0
        while begin < len(content):
            end = begin + 1 + self._prng.below(len(content) - begin)
            await self.client.pwrite(file, content[begin:end], offset + begin)  # type: ignore[arg-type]
            if self.unfinished is not None:
                path, written = self.unfinished
                self.unfinished = (path, written + content[begin:end])
            begin = end

    async def verify(self, name: str) -> None:
        """The file has the content it was closed with. Raises FS3Error when that cannot be found out."""
        await self._compare(self._path(name), self.files[name])

    async def _verify_other(self) -> None:
        if self._finished.files:
            path = self._prng.pick(list(self._finished.files))
            await self._compare(path, self._finished.files[path])

    async def verify_unfinished(self, patience: int) -> None:
        """What a writer that died was acknowledged shows up within so many seconds: somebody ends its session for it."""
        if self.unfinished is None or not self.unfinished[1]:
            return
        path, expected = self.unfinished
        for _ in range(patience):
            if (await self.client.stat(path)).length >= len(expected):
                break
            await asyncio.sleep(1)
        file = await self.client.open(path, "r")
        found = await self.client.pread(file, len(expected), 0)
        if found != expected:
            self._fail(f"{path}, whose writer died, has {file.length} bytes; {len(expected)} were acknowledged to it")
        self._log(f"{path}: what its dead writer was acknowledged is there, {len(expected)} bytes")

    async def verify_finished(self) -> None:
        """Every file that anybody finished is as it was."""
        for path, content in list(self._finished.files.items()):
            await self._compare(path, content)

    async def _compare(self, path: str, expected: bytes) -> None:
        try:
            file = await self.client.open(path, "r")
        except NotFound:
            self._fail(f"{path} is gone, it was closed with {len(expected)} bytes")
            return
        found = await self.client.pread(file, len(expected) + 100, 0)
        await self.client.close(file)
        if found != expected:
            shorter = min(len(found), len(expected))
            at = next((index for index in range(shorter) if found[index] != expected[index]), shorter)
            self._fail(f"{path} has {len(found)} bytes and should have {len(expected)}; they differ from byte {at} on")

    async def _rename(self, name: str, touched: list[str]) -> None:
        other = self._prng.pick(list(self.files)) if self._prng.chance(1, 3) else self._new_name()
        if other == name:
            return
        touched += [name, other]
        await self.client.rename(self._path(name), self._path(other))
        self.files[other] = self.files.pop(name)
        touched.clear()
        self._log(f"renamed {name} to {other}")

    async def _unlink(self, name: str, touched: list[str]) -> None:
        touched.append(name)
        await self.client.unlink(self._path(name))
        del self.files[name]
        touched.clear()
        self._log(f"removed {name}")

    async def verify_listing(self) -> None:
        """The directory has every name it must have and none it cannot have."""
        before = set(self.files)
        entries = {entry.name for entry in await self.client.list_all(self.root)}
        finished = {path.rpartition("/")[2] for path in self._finished.files if path.startswith(f"{self.root}/")}
        missing = sorted(before - entries)
        extra = sorted(entries - before - finished - set(self.uncertain_names))
        if missing or extra:
            self._fail(f"{self.root} lacks {missing} and has {extra} besides what it should have")

    def _fail(self, what: str) -> None:
        self._story.fail("files", f"client {self._number}: {what}")

    def _log(self, what: str) -> None:
        if self._story.is_verbose:
            self._story.say(f"client-{self._number}", what)
