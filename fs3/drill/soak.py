"""Hours of what can go wrong, on real processes: `python -m fs3.drill.soak --seconds 3600 --seed 7`.

Round after round: a load with an oracle, one to three things that happen to processes of the cluster while it runs (drawn from
the seed), then healing, then every byte is looked at and removed: however long it takes, the disks hold what a few rounds have
written (`fs3.drill.load.NEW_BYTES_MAX` bounds each). Stops at the first wrong byte, failed operation, or chain that does not
heal, and leaves the cluster's directory and the journal for the one who looks for the reason.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fs3.cli.local import LocalCluster
from fs3.drill.load_process import LoadProcess
from fs3.drill.roles import is_excluded, process_in_role, status_of, wait_healthy, wait_status
from fs3.drill.verify import remove_written_now, verify_now

HEAL_SECONDS = 120.0


class Soak:
    """One cluster and the things that happen to it."""

    def __init__(self, cluster: LocalCluster, prng: random.Random) -> None:
        self.cluster = cluster
        self._prng = prng
        self._storage = [name for name in cluster.shape.names() if name.startswith("storage-")]
        self.faults: dict[str, Callable[[LoadProcess], str]] = {
            "kill": self._kill,
            "kill at once again": self._kill_repeatedly,
            "pause": self._pause,
            "stop": self._restart,
            "wipe": self._replace_disk,
            "two": self._kill_two,
            "all": self._kill_all_storage,
            "service": self._kill_service,
        }

    def inject_fault(self, load: LoadProcess) -> str:
        """Something happens; what it was."""
        return self.faults[self._prng.choice(list(self.faults))](load)

    def _pick_victim(self) -> str:
        return process_in_role(status_of(self.cluster), self._prng.choice(["head", "middle", "tail"]))

    def _wait_writes(self, load: LoadProcess) -> None:
        load.wait_progress("write", self._prng.randrange(1, 200), 60)

    def _kill(self, load: LoadProcess) -> str:
        victim = self._pick_victim()
        self.cluster.kill(victim)
        self._wait_writes(load)
        self.cluster.start(only=victim)
        return f"{victim} killed"

    def _kill_repeatedly(self, load: LoadProcess) -> str:
        victim = self._pick_victim()
        for _ in range(self._prng.randrange(1, 4)):
            self.cluster.kill(victim)
            self.cluster.start(only=victim)
        return f"{victim} killed and started at once"

    def _pause(self, load: LoadProcess) -> str:
        victim = self._pick_victim()
        self.cluster.pause(victim)
        try:
            self._wait_writes(load)
        finally:
            self.cluster.resume(victim)
            if self.cluster.directory.running_pid(victim) is None:
                self.cluster.start(only=victim)  # stopped in the middle of a commit to a shared store, it has been killed
        return f"{victim} paused"

    def _restart(self, load: LoadProcess) -> str:
        name = self._prng.choice(self.cluster.shape.names())
        self.cluster.restart(name)
        return f"{name} stopped and started"

    def _replace_disk(self, load: LoadProcess) -> str:
        victim = self._pick_victim()
        self.cluster.kill(victim)
        if self._prng.random() < 0.5:
            wait_status(self.cluster, is_excluded(victim), 30, f"{victim} to be left out")
        self.cluster.wipe(victim)
        self.cluster.start(only=victim)
        return f"{victim} lost its disk"

    def _kill_two(self, load: LoadProcess) -> str:
        pair = self._prng.sample(self._storage, 2)
        for name in pair:
            self.cluster.kill(name)
            if self._prng.random() < 0.5:
                self._wait_writes(load)
        for name in pair:
            self.cluster.start(only=name)
        return f"{' and '.join(pair)} killed"

    def _kill_all_storage(self, load: LoadProcess) -> str:
        names = self._prng.sample(self._storage, len(self._storage))
        self.cluster.kill(*names)
        for name in names:
            self.cluster.start(only=name)
        return "all storage processes killed"

    def _kill_service(self, load: LoadProcess) -> str:
        name = self._prng.choice([name for name in self.cluster.shape.names() if name not in self._storage])
        self.cluster.kill(name)
        self.cluster.start(only=name)
        return f"{name} killed"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="fs3.drill.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--storage", type=int, default=4, help="storage processes")
    parser.add_argument("--targets", type=int, default=2, help="targets of each")
    parser.add_argument("--mgmtds", type=int, default=2)
    parser.add_argument("--metas", type=int, default=2)
    options = parser.parse_args(arguments)
    prng = random.Random(options.seed)
    work = Path(tempfile.mkdtemp(prefix="fs3-soak-"))
    say = sys.stdout.write
    say(f"seed {options.seed}, in {work}\n")
    until = time.monotonic() + options.seconds
    rounds = 0
    looked_at = 0
    with LocalCluster(
        work / "cluster", storage=options.storage, targets=options.targets, mgmtds=options.mgmtds, metas=options.metas
    ) as cluster:
        soak = Soak(cluster, prng)
        url = "fs3://" + ",".join(cluster.addresses)
        while time.monotonic() < until:
            rounds += 1
            with LoadProcess(url, work / f"journal-{rounds}", seed=rounds, files=2, pages=1, registers=12) as load:
                story = [soak.inject_fault(load) for _ in range(prng.randrange(1, 4))]
                wait_healthy(cluster, HEAL_SECONDS)
                load.wait_progress("write", 50, 60)
                journal = load.stop()
            verdict = verify_now(url, journal)
            looked_at += verdict.bytes
            longest = journal.longest("write"), journal.longest("settled")
            say(
                f"round {rounds}: {'; '.join(story)}: {journal.count('write')} writes (longest {longest[0]:.2f} s), "
                f"longest settled read {longest[1]:.2f} s, {verdict.bytes >> 20} MiB compared\n"
            )
            sys.stdout.flush()
            if verdict.wrong or journal.failed:
                say(f"wrong: {verdict.wrong[:10]}\nfailed: {journal.failed[:10]}\nsee {work}\n")
                return 1
            remove_written_now(url, journal, rounds)
            (work / f"journal-{rounds}").unlink()
    say(f"{rounds} rounds, {looked_at >> 20} MiB compared, nothing wrong\n")
    shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
