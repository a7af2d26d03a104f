"""Simulation ring 1: the replication machines on an event heap. No asyncio, no real time; one seed is one run, for ever.

A run has one chain of targets, a manager (the real machine too) and a few clients. For a while there is trouble (`nemesis`):
processes die, stop and hand over, links are cut, disks fill up, rot and are exchanged, and the network delays, reorders, doubles
and loses. Targets leave the chain and come back through a resync. Then everything is healed, and the run must come to rest with
every target serving and every promise kept.
"""

from __future__ import annotations

from collections.abc import Callable

from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.craq.effects import AnswerUpdate, Commit, Effect, Forward
from fs3.core.craq.events import Event, ForwardDone, StageDone, UpdateReceived
from fs3.core.craq.resync.steps import ResyncEffect, ResyncEvent
from fs3.model.chunk import Tag, Update
from fs3.sim.checkers import durability, leases
from fs3.sim.checkers.history import Operation
from fs3.sim.checkers.once import CommitVersions
from fs3.sim.ring import Outcome
from fs3.sim.ring1.cluster import ChainCluster
from fs3.sim.ring1.fingerprint import Fingerprint
from fs3.sim.ring1.nemesis import ChainNemesis
from fs3.sim.ring1.show import show_chain, show_effect, show_event
from fs3.sim.ring1.swarm import ChainSwarm, draw_swarm
from fs3.sim.ring1.target_host import Parts, TargetHost
from fs3.sim.ring1.verdict import check_stores, describe_frames, explain_history, final_read

rest_ns_max = 30 * SECOND
"""After the healing everything must have come to rest within this virtual time."""
steps_max = 200_000
"""A run that schedules more than this is broken. Usual are a few thousand."""


class RunFailure(Exception):
    """A run that has failed ends here."""


class ChainRun:
    """One run: a cluster, its nemesis, and the questions that are asked all along and in the end."""

    def __init__(
        self, seed: int, parts: Parts, trace: Callable[[str], None] | None = None, swarm: ChainSwarm | None = None
    ) -> None:
        self.seed = seed
        self.fingerprint = Fingerprint()
        self.failures: list[str] = []
        self._trace = trace
        self._acknowledged: list[Update] = []
        self._commit_order: dict[Tag, int] = {}
        self._commit_versions = CommitVersions()
        prng = Prng(seed)
        self.swarm = swarm if swarm is not None else draw_swarm(prng)
        self.cluster = ChainCluster(prng, self.swarm, parts, self)
        self.nemesis = ChainNemesis(self.cluster, Prng(prng.next()), Prng(~seed))

    # --- a run -------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Trouble, healing, rest, checks."""
        cluster, heap = self.cluster, self.cluster.heap
        try:
            self._begin()
            while not self._is_at_rest():
                assert heap.steps < steps_max, "the run does not end"
                assert heap.step(), "nothing is scheduled any more"
            self._check_end()
        except RunFailure:
            pass
        except AssertionError as failed:
            self.failures.append(f"assertion: {failed} {describe_frames(failed)}")
        except Exception as failed:  # a machine that breaks down is a finding like any other
            self.failures.append(f"{type(failed).__name__}: {failed} {describe_frames(failed)}")
        if self.failures and self._trace is not None:
            for failure in self.failures:
                self.say(f"FAILED {failure}")
        operations = sum(len(client.history) for client in cluster.clients.values())
        figures = {"chain versions": cluster.manager.chain.version}
        return Outcome(self.seed, str(self.fingerprint), self.failures, heap.steps, operations, figures)

    def _begin(self) -> None:
        self.say(self.swarm.describe())
        self.cluster.begin()
        self.nemesis.plan()
        self.cluster.heap.after(self.swarm.trouble_ns, self._heal)

    def _heal(self) -> None:
        self.say("heal")
        self.cluster.is_healed = True
        self.nemesis.heal()
        for host in self.cluster.hosts.values():
            host.repairs.scrub()

    def _is_at_rest(self) -> bool:
        cluster = self.cluster
        if not cluster.is_healed:
            return False
        if not all(client.is_done for client in cluster.clients.values()):
            self._check_patience()
            return False
        chain = cluster.manager.chain
        calm = cluster.manager.is_idle and len(chain.serving_slots()) == len(cluster.hosts)
        for host in cluster.hosts.values():
            known = host.chain if host.replica.is_open else None
            calm = calm and host.up and host.is_idle and known is not None and known.version == chain.version
            calm = calm and host.chunks.whole and not host.chunks.bad_chunks
        if not calm:
            self._check_patience()
        return calm

    def _check_patience(self) -> None:
        if self.cluster.heap.now > self.swarm.trouble_ns + rest_ns_max:
            waiting = [client.node for client in self.cluster.clients.values() if not client.is_done]
            states = "; ".join(
                f"{host.replica.describe()} resync {host.resync.machine.describe()}" for host in self.cluster.hosts.values()
            )
            chain = show_chain(self.cluster.manager.chain)
            self.report_violation(f"no rest {rest_ns_max // SECOND} s after healing: {chain}; clients {waiting} wait; {states}")

    # --- what the cluster tells ----------------------------------------------------------------------------------------

    @property
    def is_tracing(self) -> bool:
        """Lines of the trace are read."""
        return self._trace is not None

    def say(self, line: str) -> None:
        """A line of the trace."""
        if self._trace is not None:
            self._trace(f"{self.cluster.heap.now / MILLISECOND:10.3f} {line}")

    def on_exit(self, host: TargetHost) -> None:
        """A process has ended by itself."""
        self.nemesis.restart_within(host, self.swarm.lease_ns)

    def report_violation(self, what: str) -> None:
        """A promise was broken: the run ends."""
        self.failures.append(what)
        raise RunFailure

    def record(self, host: TargetHost, event: Event | ResyncEvent | str, effects: list[Effect] | list[ResyncEffect]) -> None:
        """A step of a machine."""
        mix = self.fingerprint.add
        mix(self.cluster.heap.now, host.target)
        if isinstance(event, UpdateReceived):
            mix(1, event.update.chunk[-1], event.update.kind, event.update.version, event.update.tag.seq, event.token)
        elif isinstance(event, StageDone):
            mix(2, event.chunk[-1], event.version, event.checksum)
        elif isinstance(event, ForwardDone):
            mix(3, event.chunk[-1], event.version, event.attempt, event.result.code)
        for effect in effects:
            if isinstance(effect, Forward):
                mix(5, effect.target, effect.attempt, effect.update.floor)
            elif isinstance(effect, Commit):
                mix(6, effect.chunk[-1], effect.version, effect.result.checksum)
                self._commit_order.setdefault(effect.tag, len(self._commit_order))
                wrong = self._commit_versions.explain(host.target, effect.chunk, effect.version, effect.tag)
                if wrong:
                    self.report_violation(f"once: {wrong}")
            elif isinstance(effect, AnswerUpdate):
                mix(7, effect.token, effect.result.code)
            else:
                mix(8, len(effects))
        if self._trace is not None:
            shown = "; ".join(show_effect(effect) for effect in effects)
            self.say(f"   {show_event(event)} ⇒ {shown or 'nothing'} | {host.replica.describe()}")

    def on_operation_end(self, operation: Operation) -> None:
        """An operation of a client is over, or given up."""
        now = self.cluster.heap.now
        self.fingerprint.add(now, operation.client, operation.invoked, operation.returned, operation.attempts)
        self.fingerprint.add_bytes(operation.data)
        self.say(operation.describe())

    # --- checks ------------------------------------------------------------------------------------------------------

    def on_admitted(self) -> None:
        """A target has let an update in: it must be the only one that may."""
        wrong = leases.explain(claim for host in self.cluster.hosts.values() if (claim := host.claim_head()) is not None)
        if wrong:
            self.report_violation(f"leases: {wrong}")

    def on_acknowledged(self, update: Update) -> None:
        """A client is about to be told OK: every target that serves must have the update."""
        tag = update.tag
        if not tag.client or self.cluster.clients[int.from_bytes(tag.client, "big")].has_moved_on(tag):
            return
        self._acknowledged.append(update)
        # A disk that was just exchanged has nothing, an older copy not everything; the manager does not know it yet.
        hosts = self.cluster.hosts.values()
        stores = {host.target: host.chunks for host in hosts if host.chunks.whole and host.chunks.is_settled}
        wrong = durability.explain(tag, self.cluster.manager.chain, stores)
        if wrong:
            self.report_violation(f"durability: {wrong}")

    def _check_end(self) -> None:
        cluster = self.cluster
        self.failures += check_stores(cluster.manager.chain, cluster.hosts, self._acknowledged)
        histories: dict[bytes, list[Operation]] = {}
        for client in cluster.clients.values():
            for operation in client.history:
                histories.setdefault(operation.chunk, []).append(operation)
        for history in histories.values():
            for slot in cluster.manager.chain.serving_slots():
                begun, ended = cluster.next_moment(), cluster.next_moment()
                history.append(final_read(cluster.hosts[slot.target], history[0], begun, ended))
            wrong = explain_history(history, self._commit_order)
            if wrong:
                self.failures.append(wrong)
        for host in cluster.hosts.values():
            for chunk, record in sorted(host.chunks.records.items()):
                self.fingerprint.add(host.target, record.meta.committed, record.meta.chain_version)
                self.fingerprint.add_bytes(chunk + record.content)


def run_seed(
    seed: int, parts: Parts | None = None, trace: Callable[[str], None] | None = None, swarm: ChainSwarm | None = None
) -> Outcome:
    """One run."""
    return ChainRun(seed, parts if parts is not None else Parts(), trace, swarm).run()
