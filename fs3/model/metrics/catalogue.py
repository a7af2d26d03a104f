"""Every metric there is. docs/metrics.md is made from this table, and alerts and dashboards may use nothing else.

Names follow the conventions of Prometheus: `fs3_` first, base units (seconds, bytes) last, `_total` of what only rises. What any
process has keeps the name that Prometheus' own clients give it (`process_…`, `python_…`).
"""

from __future__ import annotations

from typing import Final

from fs3.model.metrics.metric import Metric, MetricKind

_C, _G, _H = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM
_STORAGE: Final = ("storage",)
_MGMTD: Final = ("mgmtd",)
_META: Final = ("meta",)
_STORES: Final = ("mgmtd", "meta")
_OWNING: Final = ("meta", "storage")
_CALL: Final = ("service", "verb", "code")
_VERB: Final = ("service", "verb")
_TARGET: Final = ("target", "chain")

# --- the process ----------------------------------------------------------------------------------------------------

BUILD = Metric("fs3_build_info", _G, "1; the labels say which process this is.", ("version", "role", "name"))
CPU = Metric("process_cpu_seconds_total", _C, "Processor time, of users and system.")
RESIDENT = Metric("process_resident_memory_bytes", _G, "Memory in use.")
OPEN_FILES = Metric("process_open_fds", _G, "Open descriptors.")
OPEN_FILES_MAX = Metric("process_max_fds", _G, "Descriptors the process may open.")
THREADS = Metric("fs3_process_threads", _G, "Threads.")
STARTED = Metric("process_start_time_seconds", _G, "When it started, since the epoch.")
MAJOR_FAULTS = Metric("fs3_process_major_faults_total", _C, "Pages that had to be read from a disk when they were touched.")
DISK_READ = Metric("fs3_process_disk_read_bytes_total", _C, "Bytes fetched from disks: what was read and not in the page cache.")
DISK_WRITTEN = Metric("fs3_process_disk_written_bytes_total", _C, "Bytes that disks were given to write.")
GC_COLLECTIONS = Metric("python_gc_collections_total", _C, "Garbage collections.", ("generation",))
GC_PAUSE = Metric("fs3_python_gc_pause_seconds_total", _C, "Time that garbage collections took.")
LOOP_LAG = Metric("fs3_loop_lag_seconds", _H, "How late a timer of the event loop was called, measured all the time.")
LOOP_STALLS = Metric("fs3_loop_stalls_total", _C, "Times the event loop was seen to stand still for 50 ms or longer.")
MEMORY = Metric("fs3_memory_bytes", _G, "Memory by what holds it: budgets, caches, pools.", ("owner",))
MEMORY_MAX = Metric("fs3_memory_max_bytes", _G, "What a budget may hold at most.", ("owner",))
DISK_TOTAL = Metric(
    "fs3_disk_total_bytes", _G, "Size of the file systems the process keeps its data on.", ("path",), ("mgmtd", "meta", "storage")
)
DISK_FREE = Metric("fs3_disk_free_bytes", _G, "What is free there.", ("path",), ("mgmtd", "meta", "storage"))
SCRAPES = Metric("fs3_scrapes_total", _C, "Times the metrics were asked for over HTTP.")
SCRAPE_SECONDS = Metric("fs3_scrape_seconds", _G, "How long the reading before this one took.")
SCRAPES_REFUSED = Metric("fs3_scrapes_refused_total", _C, "Scrapers that were refused, because too many were connected.")

SPANS_KEPT = Metric("fs3_trace_spans_kept", _G, "Spans of traces in memory, of the last ten minutes.")
SPANS_EXPORTED = Metric("fs3_trace_spans_exported_total", _C, "Spans that the collector of traces has taken (OTLP).")
SPANS_DROPPED = Metric("fs3_trace_spans_dropped_total", _C, "Spans that were meant for it, and dropped: it is away, or slow.")

# --- calls ----------------------------------------------------------------------------------------------------------

SERVED_SECONDS = Metric(
    "fs3_rpc_served_seconds",
    _H,
    "Service time: from when a request with its payload was there until its answer was handed to the network.",
    _CALL,
)
SERVED_WAIT = Metric(
    "fs3_rpc_served_wait_seconds",
    _H,
    "How long requests waited before that: for their payload, and for memory for it and for the reply.",
    _VERB,
)
SERVED_IN_FLIGHT = Metric("fs3_rpc_served_in_flight", _G, "Requests that are not answered yet.", _VERB)
SERVED_RECEIVED = Metric("fs3_rpc_served_payload_received_bytes_total", _C, "Payload of requests.", _VERB)
SERVED_SENT = Metric("fs3_rpc_served_payload_sent_bytes_total", _C, "Payload of replies.", _VERB)
REFUSED = Metric("fs3_rpc_refused_total", _C, "Requests that were refused before a handler saw them, by reason.", ("code",))
CONNECTIONS = Metric("fs3_rpc_connections", _G, "Connections of clients on the framed wires.")
TICKETS_REFUSED = Metric(
    "fs3_tickets_refused_total",
    _C,
    "Tickets and connections that were refused, by reason.",
    ("reason",),
)
STRANGERS = Metric("fs3_stranger_connections", _G, "Connections that have proved nothing, in a cluster with security.")
PRINCIPALS_LIMITED = Metric(
    "fs3_principal_limited_total", _C, "Times that a user or node, or strangers, met a limit of theirs: waited, or were refused.",
    ("limit",),
)  # fmt: skip
CALLED_SECONDS = Metric(
    "fs3_rpc_called_seconds",
    _H,
    "From when a request was made until its outcome was known, network and waiting included. Of a storage process: Update and "
    "Push are what it sends on to the next replica.",
    _CALL,
)
CALLED_IN_FLIGHT = Metric("fs3_rpc_called_in_flight", _G, "Requests whose outcome is not known yet.", _VERB)
CALLED_SENT = Metric("fs3_rpc_called_payload_sent_bytes_total", _C, "Payload of requests.", _VERB)
CALLED_RECEIVED = Metric("fs3_rpc_called_payload_received_bytes_total", _C, "Payload of replies.", _VERB)
RETRIES = Metric(
    "fs3_retries_total",
    _C,
    "Chunk IOs that were refused or not answered, by the reason and by what was done about it.",
    ("code", "action"),
    ("client", "meta"),
)

_ASKING: Final = ("client", "meta")
CHUNK_READS = Metric(
    "fs3_chunk_read_ios_total", _C, "Pieces of chunks that were read: by the event loop, or by the thread that wants them.",
    ("way",), _ASKING,
)  # fmt: skip
CHUNK_READ_BYTES = Metric("fs3_chunk_read_bytes_total", _C, "Bytes of those that the event loop read.", (), _ASKING)
SHORT_CIRCUIT_READS = Metric(
    "fs3_short_circuit_reads_total", _C, "Pieces of chunks that were read from block files of this host, without asking a node.",
    (), _ASKING,
)  # fmt: skip
SHORT_CIRCUIT_BYTES = Metric("fs3_short_circuit_read_bytes_total", _C, "Bytes of them.", (), _ASKING)
CHUNK_UPDATES = Metric("fs3_chunk_updates_total", _C, "Chunks, or pieces of them, that were written.", (), _ASKING)
CHUNK_UPDATE_BYTES = Metric("fs3_chunk_update_bytes_total", _C, "Bytes of them.", (), _ASKING)
CHECKSUM_MISMATCHES = Metric(
    "fs3_checksum_mismatches_total", _C, "Pieces that arrived with other bytes than their checksum says; read elsewhere then.",
    (), _ASKING,
)  # fmt: skip

HEDGED_READS = Metric(
    "fs3_hedged_reads_total", _C, "Late reads that another replica was asked for as well; won: it was the first to answer.",
    ("outcome",), _ASKING,
)  # fmt: skip

# --- storage --------------------------------------------------------------------------------------------------------

TARGET_SERVING = Metric("fs3_target_serving", _G, "1 while a target serves and is up to date, else 0.", _TARGET, _STORAGE)
TARGET_USED = Metric("fs3_target_used_bytes", _G, "Bytes in blocks of a target.", _TARGET, _STORAGE)
TARGET_FREE = Metric("fs3_target_free_bytes", _G, "Bytes a target has left.", _TARGET, _STORAGE)
TARGET_CHUNKS = Metric("fs3_target_chunks", _G, "Chunks of a target.", _TARGET, _STORAGE)
TARGET_BAD = Metric("fs3_target_bad_blocks", _G, "Blocks without a good copy so far.", _TARGET, _STORAGE)
TARGET_WAITING = Metric("fs3_target_updates_waiting", _G, "Updates that a target has not answered.", _TARGET, _STORAGE)
LEASE_LEFT = Metric("fs3_lease_left_seconds", _G, "How long a target may serve without hearing from the manager.", (), _STORAGE)
RESYNC_DONE = Metric("fs3_resync_chunks_done", _G, "Chunks the successor has, of the resync under way.", _TARGET, _STORAGE)
RESYNC_TOTAL = Metric("fs3_resync_chunks", _G, "Chunks to compare and send; 0: no resync is under way.", _TARGET, _STORAGE)
RESYNC_RATE = Metric("fs3_resync_bytes_per_second", _G, "How fast the successor is brought up to date.", _TARGET, _STORAGE)
SCRUB_DONE = Metric("fs3_scrub_chunks_done", _G, "Chunks verified in the scrub under way.", _TARGET, _STORAGE)
SCRUB_TOTAL = Metric("fs3_scrub_chunks", _G, "Chunks to verify in it; 0: none is under way.", _TARGET, _STORAGE)
SCRUB_PASSES = Metric("fs3_scrub_passes_total", _C, "Scrubs that were completed.", _TARGET, _STORAGE)
REPAIRED = Metric("fs3_repaired_blocks_total", _C, "Bad blocks that were replaced by a good copy.", _TARGET, _STORAGE)
DISK_SECONDS = Metric(
    "fs3_disk_write_seconds", _H, "How long the disk took to make updates durable, each group once.", ("target",), _STORAGE
)
DISK_WAIT = Metric(
    "fs3_disk_write_wait_seconds", _H, "How long a group waited for the thread of the disk before that.", ("target",), _STORAGE
)
DISK_GROUPED = Metric("fs3_disk_write_updates_total", _C, "Updates in those groups.", ("target",), _STORAGE)
COLD_SECONDS = Metric("fs3_disk_read_seconds", _H, "How long reads of what is not in memory took.", ("target",), _STORAGE)
READS = Metric("fs3_read_ios_total", _C, "Pieces that were read: warm from memory, cold from a disk.", ("temperature",), _STORAGE)
CAPABILITIES = Metric(
    "fs3_capabilities_total",
    _C,
    "Capabilities that clients have shown, taken and refused, and requests that were refused for the want of one.",
    ("outcome",),
    _STORAGE,
)
OTHERS_CLIENTS = Metric(
    "fs3_others_clients_refused_total", _C, "Refused requests that named a client id of another user or file.", (), _OWNING
)  # fmt: skip
COLD_WAITING = Metric("fs3_cold_reads_waiting", _G, "Requests that wait for memory to read what is cold.", (), _STORAGE)
ROWS_CACHED = Metric("fs3_index_rows_cached", _G, "Rows of the chunk index in memory.", ("target",), _STORAGE)
ROWS_LOGGED = Metric("fs3_index_rows_in_log", _G, "Rows that only the log has durably.", ("target",), _STORAGE)

# --- KV pages -------------------------------------------------------------------------------------------------------

_NAMESPACE: Final = ("namespace",)
KV_PAGES = Metric("fs3_kv_pages", _G, "Pages of a namespace on heads of this process.", _NAMESPACE, _STORAGE)
KV_BYTES = Metric("fs3_kv_bytes", _G, "Their bytes, one copy.", _NAMESPACE, _STORAGE)
KV_ASKED = Metric("fs3_kv_keys_asked_total", _C, "Keys that were looked up.", _NAMESPACE, _STORAGE)
KV_FOUND = Metric("fs3_kv_keys_found_total", _C, "Keys of them that were there.", _NAMESPACE, _STORAGE)
KV_GETS = Metric("fs3_kv_gets_total", _C, "Pages that were read.", _NAMESPACE, _STORAGE)
KV_GET_BYTES = Metric("fs3_kv_get_bytes_total", _C, "Bytes of them.", _NAMESPACE, _STORAGE)
KV_PUTS = Metric("fs3_kv_puts_total", _C, "Pages that were stored, at the head of their chain.", _NAMESPACE, _STORAGE)
KV_PUT_BYTES = Metric("fs3_kv_put_bytes_total", _C, "Bytes of them.", _NAMESPACE, _STORAGE)
KV_EVICTED = Metric(
    "fs3_kv_removed_total", _C, "Pages that went: evicted, expired, removed, lost.", ("namespace", "reason"), _STORAGE
)
KV_LEASES = Metric("fs3_kv_leases_total", _C, "Leases of pages that were granted.", _NAMESPACE, _STORAGE)
KV_REFUSED = Metric(
    "fs3_kv_refused_total", _C, "Leases and pins that were refused for lack of room.", ("namespace", "what"), _STORAGE
)

# --- metadata and the stores of managers and metadata ------------------------------------------------------------------

OPERATIONS = Metric(
    "fs3_meta_operations_total", _C, "Operations on names and inodes, those in batches included.", ("operation",), _META
)
STORE_TRANSACTIONS = Metric("fs3_store_transactions_total", _C, "Operations answered by the key-value store.", (), _STORES)
STORE_COMMITS = Metric("fs3_store_commits_total", _C, "Commits that were synced to it.", (), _STORES)
STORE_ROWS = Metric("fs3_store_rows_written_total", _C, "Rows written by them.", (), _STORES)
STORE_SECONDS = Metric("fs3_store_commit_seconds_total", _C, "Time that commits took.", (), _STORES)
STORE_CONFLICTS = Metric(
    "fs3_store_conflicts_total", _C, "Commits that met another process' changes and were run again.", (), _STORES
)
STORE_RERUNS = Metric("fs3_store_reruns_total", _C, "Operations that were run again.", (), _STORES)
STORE_FAILED = Metric("fs3_store_failed_total", _C, "Operations that the engine did not carry out (etcd).", (), _STORES)
LMDB_BYTES = Metric("fs3_lmdb_file_bytes", _G, "Size of the store's data file (LMDB).", (), _STORES)
LMDB_MAP = Metric("fs3_lmdb_map_bytes", _G, "Address space of its map; a map that is full is doubled.", (), _STORES)
LMDB_USED = Metric(
    "fs3_lmdb_used_bytes", _G, "Of that, bytes in pages that were ever used; free ones are used again.", (), _STORES
)
LMDB_READERS = Metric(
    "fs3_lmdb_readers", _G, "Snapshots in use by all processes of the store, and such that were left.", (), _STORES
)
LMDB_READERS_MAX = Metric("fs3_lmdb_readers_max", _G, "How many there may be.", (), _STORES)

# --- the cluster, as its primary manager sees it -----------------------------------------------------------------------

PRIMARY = Metric("fs3_manager_primary", _G, "1 of the primary manager, 0 of those that stand by.", (), _MGMTD)
EPOCH = Metric("fs3_manager_epoch", _G, "Rises with every takeover.", (), _MGMTD)
ROUTING_VERSION = Metric("fs3_routing_version", _G, "Rises with every change of nodes and chains.", (), _MGMTD)
NODES = Metric("fs3_nodes", _G, "Nodes by role, and by whether they are alive.", ("role", "alive"), _MGMTD)
TARGETS = Metric("fs3_targets", _G, "Targets by their state in their chains.", ("state",), _MGMTD)
CHAINS = Metric("fs3_chains", _G, "Chains: whole, degraded (replicas missing), down (none serves).", ("state",), _MGMTD)
PROBLEMS = Metric(
    "fs3_problems", _G, "What is wrong with the cluster, by code and severity; docs/runbooks has a page per code.",
    ("code", "severity"), _MGMTD,
)  # fmt: skip
SPACE_USED = Metric("fs3_space_used_bytes", _G, "Bytes in blocks of all targets, every copy counted.", (), _MGMTD)
SPACE_FREE = Metric("fs3_space_free_bytes", _G, "Bytes all targets have left.", (), _MGMTD)
NAMESPACES = Metric("fs3_kv_namespaces", _G, "KVCache namespaces there are.", (), _MGMTD)

CATALOGUE: Final[dict[str, Metric]] = {found.name: found for found in list(vars().values()) if isinstance(found, Metric)}
"""By name, in the order above."""


def metrics_table() -> str:
    """The catalogue as a table of Markdown."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} "
        f"| {', '.join(metric.roles) or 'all'} | {metric.help} |"
        for metric in CATALOGUE.values()
    ]
    return "\n".join(["| metric | kind | labels | of | what it says |", "|---|---|---|---|---|", *rows])
