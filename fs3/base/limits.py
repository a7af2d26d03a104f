"""Every limit of fs3 in one place, with the relations between them asserted.

A limit that is reached answers `BUSY`, `TOO_LARGE`, `NO_SPACE` or a named error; nothing grows without one.
"""

from __future__ import annotations

from fs3.base.units import GIB, KIB, MIB, MILLISECOND, MINUTE, SECOND

# --- names and paths -------------------------------------------------------------------------------------------------
name_bytes_max = 255
path_bytes_max = 4096
path_depth_max = 256
symlinks_followed_max = 40
links_per_file_max = 65_535

# --- frames and calls ------------------------------------------------------------------------------------------------
frame_header_bytes_max = 1 * MIB
"""Protobuf part of one frame."""
frame_payload_bytes_max = 64 * MIB + 1 * MIB
"""Payload part of one frame: one chunk of the largest size, with room for a page trailer."""
calls_per_connection_max = 1024
"""Requests under way on one connection; further ones wait in the client, and a server that sees more answers BUSY."""
receive_bytes_max = 96 * MIB
"""Request payloads one server process holds at once; connections stop being read beyond it."""
send_queue_bytes_max = 64 * MIB
"""Reply bytes in memory that one connection may have queued before its requests are no longer read."""
connections_max = 4096
drain_events_max = 4096

# --- batches ---------------------------------------------------------------------------------------------------------
ios_per_read_max = 1024
updates_per_request_max = 256
keys_per_find_max = 8192
batch_items_max = 4096
list_entries_max = 2048
read_bytes_per_request_max = 32 * MIB
update_bytes_per_request_max = 8 * MIB
"""A client splits larger batches; a single update may be as large as a chunk."""

# --- chunks ----------------------------------------------------------------------------------------------------------
chunk_bytes_min = 64 * KIB
chunk_bytes_max = 64 * MIB
chunk_bytes_default = 4 * MIB
block_bytes_max = 72 * MIB
"""Largest block of the chunk store: a chunk of the largest size and a trailer."""
inline_chunk_bytes_max = 2 * KIB
"""Chunks up to this size live in the index row."""
stripe_max = 1024
stripe_default = 8
file_bytes_max = 1 << 60

# --- replication -----------------------------------------------------------------------------------------------------
lane_waiting_max = 256
"""Updates waiting behind one chunk's flight."""
flights_per_target_max = 1024
channels_per_client_max = 4096
replicas_max = 16

# --- metadata --------------------------------------------------------------------------------------------------------
transactions_per_commit_max = 512
transactions_per_turn_max = 64
"""Operations a metadata lane runs before it lets the loop look at other things."""
transactions_waiting_max = 65_536
"""Operations submitted to a store and not yet run; further ones are answered BUSY."""
requests_remembered_ns = 30 * MINUTE
garbage_chunks_per_step_max = 512

# --- time ------------------------------------------------------------------------------------------------------------
heartbeat_ns = 500 * MILLISECOND
lease_ns = 3 * SECOND
clock_drift_ns = 100 * MILLISECOND
flight_deadline_ns = 10 * SECOND
call_timeout_ns = 30 * SECOND
connect_timeout_ns = 5 * SECOND

# --- KVCache ---------------------------------------------------------------------------------------------------------
page_bytes_max = 64 * MIB
page_trailer_bytes = 64
namespace_name_bytes_max = 255
key_bytes_max = 4096

# --- embedded stores -------------------------------------------------------------------------------------------------
kv_key_bytes_max = 480
kv_value_bytes_max = 1 * MIB
lmdb_map_bytes_default = 64 * GIB
"""Address space, not disk or memory."""
lmdb_map_bytes_max = 1024 * GIB
"""How far a full map is grown."""

assert page_bytes_max + page_trailer_bytes <= block_bytes_max
assert frame_payload_bytes_max >= chunk_bytes_max + page_trailer_bytes
assert frame_payload_bytes_max <= receive_bytes_max
assert update_bytes_per_request_max <= frame_payload_bytes_max
assert 3 * heartbeat_ns <= lease_ns
assert clock_drift_ns < lease_ns
assert transactions_per_turn_max <= transactions_per_commit_max <= transactions_waiting_max
assert batch_items_max <= transactions_waiting_max
assert lmdb_map_bytes_default <= lmdb_map_bytes_max
assert inline_chunk_bytes_max < chunk_bytes_min
