"""vLLM's whole engine on the CPU, in this process: a Llama so small that its weights are made up, with what copies its blocks.

    python -m tests.external.vllm_engine MODEL_DIRECTORY KV_TRANSFER_CONFIG PROMPT_TOKENS

vLLM's own worker copies blocks between a GPU and the memory that tiers see, and refuses CPUs. `CopyingSpec` is its specification
with a worker that copies them within the CPU's memory; everything else is vLLM's. Prints what was said and how much of the prompt
was found, for each of two prompts, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vllm.v1.kv_offload.base import OffloadingWorker, TransferResult
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec

MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_hidden_layers": 2,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "bos_token_id": 1,
    "eos_token_id": 2,
}


class CopyingWorker(OffloadingWorker):
    """Copies blocks at once. One block is one chunk."""

    def __init__(self, kv_caches: Any, region: SharedOffloadRegion) -> None:
        import torch

        self._region: SharedOffloadRegion | None = region
        self._pairs = []
        for cache in kv_caches.tensors:
            blocks = cache.tensor.view(torch.int8).view(-1, cache.page_size_bytes)
            self._pairs.append((blocks, region.create_next_worker_view(cache.page_size_bytes)))
        self._finished: list[TransferResult] = []

    def submit_store(self, job_id: int, src_spec: Any, dst_spec: Any) -> bool:
        for blocks, chunks in self._pairs:
            chunks[dst_spec.block_ids] = blocks[src_spec.block_ids]
        self._finished.append(TransferResult(job_id, success=True))
        return True

    def submit_load(self, job_id: int, src_spec: Any, dst_spec: Any, expedited: bool = False) -> bool:
        for blocks, chunks in self._pairs:
            blocks[dst_spec.block_ids] = chunks[src_spec.block_ids]
        self._finished.append(TransferResult(job_id, success=True))
        return True

    def get_finished(self) -> list[TransferResult]:
        finished, self._finished = self._finished, []
        return finished

    def wait(self, job_ids: set[int]) -> None:
        """All is done."""

    def shutdown(self) -> None:
        self._pairs.clear()
        if self._region is not None:
            self._region.cleanup()
            self._region = None


class CopyingSpec(TieringOffloadingSpec):  # type: ignore[misc]  # vLLM has no types
    """vLLM's tiers, of a CPU."""

    def get_worker(self, kv_caches: Any) -> OffloadingWorker:
        if self._worker is None:
            region = SharedOffloadRegion(
                engine_id=self._engine_id,
                num_chunks=self.num_chunks,
                rank=self.config.parallel.rank,
                kv_bytes_per_chunk=self.kv_bytes_per_chunk,
                cpu_page_size=self.cpu_page_size_per_worker,
            )
            self._worker = CopyingWorker(kv_caches, region)
        return self._worker


def main() -> None:
    """One engine, asked twice."""
    from vllm import LLM, SamplingParams
    from vllm.config import KVTransferConfig

    model, transfer, tokens = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(json.dumps(MODEL))
    engine = LLM(
        model=str(model),
        load_format="dummy",
        skip_tokenizer_init=True,
        dtype="float32",
        seed=0,
        max_model_len=2048,
        max_num_seqs=4,
        block_size=32,
        kv_cache_memory_bytes=64 << 20,
        enforce_eager=True,
        kv_transfer_config=KVTransferConfig(**transfer),
    )
    said = []
    for first in (3, 200):
        prompt = [3 + (first + 7 * index) % 500 for index in range(tokens)]
        (answer,) = engine.generate(
            [{"prompt_token_ids": prompt}],
            SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, detokenize=False),
            use_tqdm=False,
        )
        said.append({"tokens": list(answer.outputs[0].token_ids), "found": answer.num_cached_tokens})
    engine.llm_engine.engine_core.shutdown()
    sys.stdout.write(f"\n{json.dumps(said)}\n")


if __name__ == "__main__":
    main()
