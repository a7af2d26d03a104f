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
calls_waiting_max = 65_536
"""Callers of one channel that wait for one of its `calls_per_connection_max` places; further ones are answered BUSY."""
stream_queue_bytes_max = 4 * MIB
"""Messages of one streamed answer queued on either side; a consumer that falls further behind loses the stream (BUSY)."""
receive_idle_bytes_max = 32 * MIB
"""Request buffers kept for the next request instead of being given back to the system."""
staging_bytes = 256 * KIB
"""Read from a connection in one go while looking for frames; one such buffer per event loop."""
long_header_bytes = 16 * KIB
"""Longer protobuf headers are received into a buffer of their own, so that half a header never occupies more than this."""
wake_bytes_max = 1 * MIB
"""Received or sent by one connection before the others get their turn."""
copied_parts_bytes_max = 16 * KIB
"""Payloads up to this size are copied behind their header: cheaper than to gather them."""
accepts_per_wake_max = 64
listen_backlog = 1024
local_send_buffer_bytes = 1 * MIB
"""Of a Unix socket; the system may grant less."""
error_message_chars_max = 2048
drain_events_max = 4096

# --- batches ---------------------------------------------------------------------------------------------------------
ios_per_read_max = 1024
updates_per_request_max = 256
keys_per_find_max = 8192
batch_items_max = 4096
batch_stat_paths_max = 1024
"""A client splits larger batches, so that nobody waits long behind one."""
batch_stats_at_once_max = 4
"""Pieces of one batch that a client has under way."""
request_bytes_max = 768 * KIB
"""A client splits batches whose requests are larger; they travel as one frame header."""
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
small_read_bytes = 64 * KIB
"""Ranges shorter than this are read into memory, verified and coalesced; longer ones leave by sendfile."""
stages_per_barrier_max = 1024
"""Updates one barrier of a target makes durable together; the rest wait for the next."""
commit_sync_ns = 100 * MILLISECOND
"""A commit that no barrier has taken along by then is made durable by itself."""
row_cache_bytes = 32 * MIB
"""Decoded index rows and piece sums one target keeps in memory."""
cold_readers_per_target = 4
"""Threads that wait for the disk on behalf of cold reads."""
block_reuse_delay_ns = 2 * SECOND
"""A block that left by sendfile rests so long after its last reader: its pages may still be in a socket."""
disk_reserve_bytes = 256 * MIB
"""Room on the file system that writes leave free, for the index and for everybody else."""
reclaim_bytes_per_barrier_max = 4 * GIB
"""Free blocks whose disk space one barrier gives back when the disk runs low."""
stripe_max = 1024
stripe_default = 8
file_bytes_max = 1 << 60

# --- replication -----------------------------------------------------------------------------------------------------
lane_waiting_max = 256
"""Updates waiting behind one chunk's flight."""
flights_per_target_max = 1024
askers_per_flight_max = 64
"""Senders of one and the same update that wait for its answer."""
channels_per_client_max = 4096
replicas_max = 16

# --- storage clients and services ------------------------------------------------------------------------------------
read_frame_bytes = 8 * MIB
"""A client cuts larger batches, so that one reply is verified while the next arrives; a single IO may be larger."""
read_frames_max = 8
update_frames_max = 8
"""Requests one call has under way at once."""
update_alone_bytes = 1 * MIB
"""An update of this size travels in a frame of its own."""
cold_reads_max = 4096
"""Reads that wait for the disks of one storage process."""
cold_read_bytes_max = 64 * MIB
"""Bytes those reads may hold in memory until they are sent; further ones wait."""
fill_bytes_max = 64 * MIB
"""Bytes one target may have read back from its store to send them on."""
lent_bytes_max = 12 * MIB
parked_bytes_max = 8 * MIB
"""Bytes of request buffers that may be kept while another node, or another update of the chunk, is waited for; see
`fs3.services.storage.updates`."""
forward_requests_max = 32
"""Requests one target has under way to its successor; further updates wait and then leave together."""

# --- native client and fsspec ------------------------------------------------------------------------------------------
client_read_call_bytes = 64 * MIB
client_read_calls_max = 2
"""A longer read is cut into calls of this size, so many under way: each call has its own deadline."""
client_write_call_bytes = 8 * MIB
client_write_bytes_max = 64 * MIB
"""Written bytes one client has under way; further writes wait for their turn. Copies hold as much."""
transfer_parts_max = 4
"""Parts of `client_write_call_bytes` that one upload or download of a local file holds in memory."""
client_lists_max = 32
"""Directories one walk lists at once."""
spare_buffer_bytes_max = 64 * MIB
"""Blocks of memory a client process keeps for the next transfer."""
file_ahead_bytes_max = 32 * MIB
"""Fetched ahead of a sequential reader, per open file."""
file_behind_bytes_max = 32 * MIB
"""Accepted from a writer and not yet acknowledged by storage, per open file; a write then waits."""

# --- metadata --------------------------------------------------------------------------------------------------------
key_bytes_stored_max = 480
"""Of a key in the transactional store; LMDB's own limit is 511."""
transactions_per_commit_max = 512
ancestors_max = 4096
"""A directory deeper than this cannot be the target of a moved directory: finding loops would take too long."""
transactions_per_turn_max = 64
"""Operations a metadata lane runs before it lets the loop look at other things."""
transactions_waiting_max = 65_536
"""Operations submitted to a store and not yet run; further ones are answered BUSY."""
groups_max = 1024
"""Supplementary groups of one caller."""
requests_remembered_ns = 30 * MINUTE
requests_per_sweep_max = 512
"""Remembered requests one transaction of the sweep looks at."""
garbage_chunks_per_step_max = 512
garbage_files_per_step_max = 64
garbage_entries_per_step_max = 128
"""Entries of a detached directory that one transaction takes apart."""
garbage_probe_chunks = 64
"""How many chunks behind the end of a removed file are looked for."""

# --- time ------------------------------------------------------------------------------------------------------------
heartbeat_ns = 500 * MILLISECOND
lease_ns = 3 * SECOND
clock_drift_ns = 100 * MILLISECOND
flight_deadline_ns = 10 * SECOND
"""Whoever asked for an update has an answer by then, even if it is that nobody knows yet."""
forward_timeout_min_ns = 3 * SECOND
"""A sending to the successor that is not answered for so long is repeated; doubles with each repetition."""
forward_timeout_max_ns = 10 * SECOND
forward_backoff_min_ns = 10 * MILLISECOND
"""Before repeating a sending that the successor refused; doubles with each repetition."""
forward_backoff_max_ns = 1 * SECOND
call_timeout_ns = 30 * SECOND
attempt_timeout_ns = 5 * SECOND
"""One try of a repeatable request; then another node is asked."""
retry_backoff_min_ns = 2 * MILLISECOND
retry_backoff_max_ns = 500 * MILLISECOND
connect_timeout_ns = 5 * SECOND
read_attempt_ns = 3 * SECOND
"""How long a read waits for one replica before it asks another."""
update_attempt_ns = 6 * SECOND
"""How long an update waits for the head before it is sent again, under the same tag."""
slow_ns_per_byte = 60
"""Added to both for each byte under way: a link of 16 MB/s is slow, not broken."""
connect_backoff_min_ns = 5 * MILLISECOND
connect_backoff_max_ns = 500 * MILLISECOND
"""After a refused connection, calls fail at once for so long before the next attempt."""
receive_stall_ns = 10 * SECOND
"""A peer that has begun a frame and sends nothing of it for so long is disconnected."""
receive_rate_min = 1 * MIB
"""Bytes per second: a frame may take `receive_stall_ns` and the time this rate needs for it, then the peer is disconnected."""
send_stall_ns = 30 * SECOND
"""A peer that takes nothing of what is queued for it for so long is disconnected."""
tcp_keepalive_idle_s = 10
tcp_keepalive_interval_s = 5
tcp_keepalive_probes = 3
"""An idle connection to a host that has died is noticed after 25 s."""
tcp_unacknowledged_ms = 30_000
"""A host that acknowledges nothing of what was sent for so long counts as dead."""
accept_rest_ns = 500 * MILLISECOND
"""A listener that cannot accept (no descriptors left) tries again after so long."""
transport_sweep_ns = 1 * SECOND
"""How often connections are checked for stalls."""
log_interval_ns = 1 * SECOND
"""A repeated complaint about peers is logged at most so often."""

# --- management ------------------------------------------------------------------------------------------------------
nodes_max = 4096
endpoints_per_node_max = 8
endpoint_bytes_max = 512
targets_per_node_max = 256
tables_max = 64
namespaces_max = 1024
routing_bytes_max = 512 * KIB
"""Encoded size of the whole routing info: it travels as one frame header. About 12 000 chains of three."""
routing_deltas_max = 256
"""Deltas the manager keeps; whoever is further behind gets the whole."""
manager_waiting_max = 4096
"""Requests waiting for the manager's next commit."""
watchers_max = 8192
watch_keepalive_ns = 5 * SECOND
"""A watch stream that says nothing for three times as long is taken for broken."""
config_bytes_max = 64 * KIB
"""Distributed configuration of one role."""
target_reason_bytes_max = 200
routing_poll_ns = 1 * SECOND
"""Between pulls while the manager's streams cannot be used."""
refresh_wait_ns = 1 * SECOND
"""How long somebody who needs newer routing waits for one pull."""
reconnect_backoff_min_ns = 20 * MILLISECOND
reconnect_backoff_max_ns = 1 * SECOND
transport_distrust_ns = 30 * SECOND
"""How long a transport that failed its first transfer is left alone."""

# --- KVCache ---------------------------------------------------------------------------------------------------------
page_bytes_max = 64 * MIB
page_trailer_bytes = 64
namespace_name_bytes_max = 255
key_bytes_max = 4096

# --- embedded stores -------------------------------------------------------------------------------------------------
value_bytes_stored_max = 1 * MIB
lmdb_map_bytes_default = 64 * GIB
"""Address space, not disk or memory."""
lmdb_map_bytes_max = 1024 * GIB
"""How far a full map is grown."""

assert client_write_call_bytes <= client_write_bytes_max
assert page_bytes_max + page_trailer_bytes <= block_bytes_max
assert frame_payload_bytes_max >= chunk_bytes_max + page_trailer_bytes
assert frame_payload_bytes_max <= receive_bytes_max
assert update_bytes_per_request_max <= frame_payload_bytes_max
assert request_bytes_max + 64 * KIB <= frame_header_bytes_max
assert batch_stat_paths_max <= batch_items_max
assert attempt_timeout_ns < call_timeout_ns
assert long_header_bytes < staging_bytes <= wake_bytes_max
assert frame_header_bytes_max <= stream_queue_bytes_max
assert connect_backoff_min_ns <= connect_backoff_max_ns < connect_timeout_ns
assert transport_sweep_ns < receive_stall_ns <= send_stall_ns
assert 3 * heartbeat_ns <= lease_ns
assert clock_drift_ns < lease_ns
assert transactions_per_turn_max <= transactions_per_commit_max <= transactions_waiting_max
assert batch_items_max <= transactions_waiting_max
assert garbage_files_per_step_max * garbage_probe_chunks <= keys_per_find_max
assert lmdb_map_bytes_default <= lmdb_map_bytes_max
assert inline_chunk_bytes_max < chunk_bytes_min
assert inline_chunk_bytes_max <= small_read_bytes
assert routing_bytes_max < frame_header_bytes_max
assert config_bytes_max < frame_header_bytes_max
assert forward_backoff_min_ns < forward_backoff_max_ns <= forward_timeout_min_ns <= forward_timeout_max_ns
assert forward_timeout_min_ns < flight_deadline_ns < call_timeout_ns
assert read_frame_bytes <= read_bytes_per_request_max
assert update_bytes_per_request_max <= parked_bytes_max
# A frame of the largest size always finds a buffer (sizes are rounded up by an eighth), however many others wait for somebody.
assert lent_bytes_max + parked_bytes_max + frame_payload_bytes_max * 9 // 8 <= receive_bytes_max
assert update_alone_bytes <= update_bytes_per_request_max
assert lease_ns < update_attempt_ns < flight_deadline_ns < call_timeout_ns
