"""vLLM on fs3: a secondary tier behind its CPU memory, shared by all engines of a model.

    vllm serve … --kv-transfer-config '{"kv_connector": "OffloadingConnector", "kv_role": "kv_both",
      "kv_connector_extra_config": {"spec_name": "TieringOffloadingSpec", "cpu_bytes_to_use": 10737418240, "secondary_tiers": [
        {"type": "FS3Tier", "module_path": "fs3.api.integrations.vllm", "url": "fs3://127.0.0.1:8000", "replicas": 2}]}}'

One chunk of vLLM's CPU memory, which has what all ranks of an engine keep of some tokens, is one page, without a copy. Its key is
vLLM's: the hash of all tokens up to there, and the group. The namespace's name says everything that makes chunks incompatible.

vLLM calls from the thread of its scheduler, which must neither wait nor see an exception: no call does either, but the first,
which opens the namespace when the engine starts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from fs3.api.integrations.engine import EngineOptions, check_version, namespace_name, open_namespace, unknown_options
from fs3.api.integrations.lookups import BatchedLookups
from fs3.api.integrations.transfers import Transfer, TransferQueue
from fs3.api.kvcache import JobKind, Status
from fs3.base.errors import error
from fs3.base.limits import page_bytes_max
from fs3.base.status import Code

SUPPORTED_VERSIONS = ("0.32", "0.33")

try:
    from vllm import __version__ as VLLM_VERSION

    check_version("vLLM", VLLM_VERSION, SUPPORTED_VERSIONS)
    from vllm.platforms import current_platform
    from vllm.v1.kv_offload.base import (
        Locality,
        LookupResult,
        Medium,
        OffloadingEvent,
        OffloadingSpec,
        OffloadKey,
        ReqContext,
        RequestOffloadingContext,
        ScheduleEndContext,
    )
    from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager, TransferJob
except ImportError as missing:
    raise ImportError(f"{__name__} is for vLLM {' and '.join(SUPPORTED_VERSIONS)}: {missing}") from missing

_LAYOUT_VERSION = 1
"""Of what this adapter makes of a chunk; another one finds none of the pages."""
_DIGEST_DIGITS = 12

log = logging.getLogger("vllm.fs3")
"""vLLM shows what loggers below its own say."""


def describe_chunks(spec: OffloadingSpec, chunk_bytes: int) -> dict[str, Any]:
    """Everything that makes chunks of one engine useless to another."""
    config = spec.config
    facts: dict[str, Any] = {
        "adapter": _LAYOUT_VERSION,
        "vllm": ".".join(VLLM_VERSION.split(".")[:2]),
        "platform": current_platform.device_name,
        "model": config.model.name,
        "dtype": config.model.dtype,
        "layout": config.kv_cache_layout,
        "tokens_per_hash": config.cache.tokens_per_hash,
        "blocks_per_chunk": config.cache.blocks_per_chunk,
        "groups": [[group.group_id, group.tokens_per_block, list(group.layer_names)] for group in config.groups],
        "chunk_bytes": chunk_bytes,
        "ranks": _describe_ranks(spec),
    }
    if config.canonical_layout:
        from vllm.distributed.kv_transfer.kv_connector.v1.offloading.canonical_mapping import canonical_format_id

        facts["layout"] = f"canonical {canonical_format_id(config.kv_cache_layout)}"
    return facts


def _describe_ranks(spec: OffloadingSpec) -> dict[str, int]:
    """How a chunk is divided among ranks; nothing where it is the same under any division: that of one rank, that of latents
    (MLA), of which vLLM keeps one copy for all ranks, and that of its canonical layout where vLLM says so."""
    config, parallel = spec.config, spec.config.parallel
    is_whole = parallel.world_size == 1 or spec.replicated_layout
    if is_whole or (config.canonical_layout and parallel.is_parallelism_agnostic):
        return {}
    sizes = {"tp": parallel.tp_size, "pp": parallel.pp_size, "pcp": parallel.pcp_size, "dcp": parallel.dcp_size}
    return {axis: size for axis, size in sizes.items() if size > 1} | {
        "world": parallel.world_size,
        "bytes": config.worker_kv_bytes_per_block,
    }


def name_of_namespace(facts: dict[str, Any], prefix: str) -> str:
    """What people want to read first, then a digest of all facts."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_DIGEST_DIGITS]
    ranks = "".join(f"{axis}{size}" for axis, size in facts["ranks"].items() if axis not in ("world", "bytes"))
    tokens = facts["tokens_per_hash"]
    return namespace_name(
        prefix,
        f"vllm{facts['vllm']}",
        digest,
        facts["dtype"],
        f"hash{tokens}x{facts['blocks_per_chunk']}",
        ranks or "whole",
        facts["model"],
    )


class FS3Tier(SecondaryTierManager):  # type: ignore[misc]  # vLLM has no types
    """The tier that vLLM makes of `"type": "FS3Tier"`."""

    medium: ClassVar[Medium] = Medium.STORAGE

    def __init__(
        self,
        offloading_spec: OffloadingSpec,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: Any = None,
        enable_kv_events: bool = False,
        locality: str | None = None,
        **options: Any,
    ) -> None:
        """Raises TypeError or FS3Error INVALID for options that cannot be, and FS3Error when the cluster does not answer: vLLM
        does not start then."""
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        if unknown := unknown_options(options):
            raise error(Code.INVALID, f"options of fs3 for vLLM that it does not know: {', '.join(unknown)}")
        self.locality = Locality(locality) if locality is not None else Locality.REMOTE
        read = EngineOptions.read("vLLM", options)
        chunk_bytes = self.block_size_bytes
        if chunk_bytes > page_bytes_max:
            raise error(
                Code.INVALID,
                f"a chunk of vLLM's CPU memory has {chunk_bytes} bytes, a page at most {page_bytes_max}: set a smaller "
                "block_size or blocks_per_chunk in kv_connector_extra_config",
            )
        facts = describe_chunks(offloading_spec, chunk_bytes)
        name = name_of_namespace(facts, read.name)
        log.info("chunks of vLLM: %s", json.dumps(facts))
        self._cache = open_namespace(read, name, chunk_bytes, log, pages="chunks of vLLM")
        self._memory = primary_kv_view.cast("B")
        """All chunks, one after the other."""
        self._lookups = BatchedLookups(self._cache)
        self._transfers = TransferQueue(self._cache)
        self._emits_events = bool(enable_kv_events) and offloading_spec.kv_events_config.enable_kv_cache_events
        self._events: list[OffloadingEvent] = []

    # --- what is there ------------------------------------------------------------------------------------------------------

    def lookup(self, key: OffloadKey, req_context: ReqContext) -> LookupResult:
        """Whether a chunk is there: RETRY at first, and HIT or MISS as soon as fs3 has answered, normally in the next step."""
        is_there = self._lookups.ask(key, req_context.req_id)
        if is_there is None:
            return LookupResult.RETRY
        return LookupResult.HIT if is_there else LookupResult.MISS

    def on_new_request(self, req_context: ReqContext) -> RequestOffloadingContext:
        """Chunks are stored as they come."""
        return RequestOffloadingContext()

    def on_request_finished(self, req_context: ReqContext) -> None:
        """Forget what the request asked for."""
        self._lookups.forget(req_context.req_id)

    def on_schedule_end(self, context: ScheduleEndContext) -> None:
        """Look up what this step asked for."""
        self._lookups.send()

    # --- chunks, from and to vLLM's CPU memory --------------------------------------------------------------------------------

    def submit_store(self, job_metadata: TransferJob) -> None:
        """Begin to store chunks."""
        self._transfers.store(job_metadata.job_id, list(job_metadata.keys), self._chunks(job_metadata.chunk_ids))

    def submit_load(self, job_metadata: TransferJob) -> None:
        """Begin to read chunks."""
        self._transfers.read(job_metadata.job_id, list(job_metadata.keys), self._chunks(job_metadata.chunk_ids))

    def _chunks(self, chunk_ids: Iterable[int]) -> list[memoryview]:
        size = self.block_size_bytes
        return [self._memory[start : start + size] for start in (int(chunk) * size for chunk in chunk_ids)]

    def get_finished_jobs(self) -> Sequence[JobResult]:
        """The jobs that have ended since the last time; of those that could read only some of their chunks, which."""
        self._lookups.poll()
        return [self._result_of(transfer) for transfer in self._transfers.poll()]

    def _result_of(self, transfer: Transfer) -> JobResult:
        done = [key for key, status in zip(transfer.keys, transfer.statuses, strict=True) if status.ok]
        if transfer.kind is JobKind.PUT:
            if done and self._emits_events:
                self._events.append(OffloadingEvent(done, self.medium, removed=False, locality=self.locality))
        elif len(done) < len(transfer.keys):
            self._lookups.mark_missing(
                key for key, status in zip(transfer.keys, transfer.statuses, strict=True) if status is not Status.OK
            )
        return JobResult(
            job_id=transfer.number,
            success=len(done) == len(transfer.keys),
            successful_keys=tuple(done) or None,
            transfer_time=time.monotonic() - transfer.begun,
            transfer_bytes=len(done) * self.block_size_bytes,
        )

    def take_events(self) -> Iterable[OffloadingEvent]:
        """What was stored since the last time, where vLLM is to tell others."""
        events, self._events = self._events, []
        return events

    # --- the rest -------------------------------------------------------------------------------------------------------------

    def drain_jobs(self) -> None:
        """Wait until no job is under way: at most as long as their calls may take."""
        self._transfers.drain()

    def shutdown(self) -> None:
        """Let go, after what is under way; pages stay. Nothing touches vLLM's memory any more."""
        self._transfers.close()
        self._cache.close()
        self._memory.release()
