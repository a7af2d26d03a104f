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
bad_chunks_max = 65_536
"""Chunks one target keeps marked as bad."""
scrub_rows_max = 256
"""Chunks one step of a scrub looks at."""
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
channels_per_target_max = 1 << 20
"""Channel rows of one target before updates of new channels are BUSY; about 150 bytes of the index each."""
channel_forget_ns = 60 * MINUTE
"""Running time of a target after which its channel epoch advances; a row is forgotten between one and two of these unused."""
channel_rows_per_merge_max = 1024
channels_per_sweep_max = 512
"""Channel rows looked at by one barrier that forgets old ones."""
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
resync_targets_max = 4
"""Targets of one process that bring their successors up to date at the same time; the others wait their turn."""
resync_fills_max = 64
resync_bytes_max = 32 * MIB
"""Chunks, and bytes of them, that one target may have under way to bring its successor up to date."""
resync_gentle_fills_max = 16
resync_gentle_bytes_max = 4 * MIB
"""The same while the node is asked for other things: one chunk of the usual size at a time, or some small ones, which share the
successor's barrier. Then it rests."""
resync_range_chunks = 128
"""Chunks one digest is made of."""
resync_ranges_per_request_max = 16
resync_ranges_at_once = 8
"""Digests made in one step, which holds up everything else of the process for a few milliseconds."""
resync_list_rows = 512
"""Rows a successor is asked for at once; also keys of chunks that are known to differ and wait for their turn."""
resync_channels_per_request = 1024
"""Channel rows handed over at once."""
resync_queries_max = 4
"""Requests one target has under way to find out what its successor lacks."""
resync_finish_ns = 1 * SECOND
"""How often a successor is told that it has everything, until the chain version changes."""
resync_retry_min_ns = 20 * MILLISECOND
resync_retry_max_ns = 1 * SECOND
"""Before a request of a resync that failed is sent again; doubles with each failure in a row."""
foreground_recent_ns = 20 * MILLISECOND
"""Background work goes slowly while a request has arrived so recently."""
background_rest_ns = 20 * MILLISECOND
background_wait_ns_max = 1 * SECOND
"""How often a scrub looks whether it may go on, and after how long it does a step anyway."""
handover_wait_ns = 1 * SECOND
"""How long a storage node that stops waits for the routing info to show it, once the manager has been told."""
full_target_room_bytes = 64 * MIB
"""A target that had no room while it was brought up to date tries again once so much more is free."""
resync_pace_ns = 100 * MILLISECOND
"""How often the pace of resyncs is set anew."""
resync_rate_ns = 3 * SECOND
"""What the rate of a resync, as people see it, is measured over."""
throttle_bytes_per_second_min = 64 * KIB
throttle_bytes_per_second_max = 1 << 40
throttle_burst_ns = 100 * MILLISECOND
"""A rate may be exceeded by what it allows in so long."""
bad_chunks_shown_max = 64
"""Of a target's bad chunks, those that are named to people."""
suspects_max = 256
"""Chunks of one target that clients say they received wrongly, and that were not looked at yet."""
repair_retry_min_ns = 1 * SECOND
repair_retry_max_ns = 60 * SECOND
"""Before a bad chunk that no other replica could give is asked for again."""
scrub_bytes_per_second_default = 16 * MIB
scrub_interval_s_default = 14 * 24 * 3600
scrub_step_bytes = 4 * MIB
"""What one step of a scrub reads before it looks whether somebody else needs the disk."""
scrub_first_ns = 10 * MINUTE
"""After a target was opened, before its first scrub begins; one that a restart interrupted goes on at once."""
scrub_note_ns = 30 * SECOND
"""How often the place a scrub has reached is written down, so that a restart goes on from there."""
target_open_ns_max = 5 * SECOND
"""A target whose store takes longer to open or to make is reported as not working, so that its chain goes on."""
target_rebuild_ns = 1 * SECOND
"""How often a target that does not work is looked at again."""

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
check_rows_per_page = 512
"""Rows of the namespace that one request of a check looks at; the service does nothing else meanwhile."""
inspect_inodes_max = 1024
"""Inodes that one request of a check asks about."""
check_inodes_per_pass = 1 << 21
"""Inodes a check counts the names of at once, 26 bytes each; in a larger namespace it counts several times."""
check_rounds_max = 6
"""How often a check looks again at what is changing."""
check_suspects_max = 1 << 20
"""More inodes than this are not looked at again: they change faster than they can be counted."""
check_chunks_per_batch = 4096
"""Chunks of a listing that are compared with the namespace at once."""
check_replica_looks_max = 12
"""How often the replicas of a chunk that is being written are compared before the check goes on."""
check_problems_max = 10_000
"""One run of a check says no more; the rest is found once these are repaired."""

session_keepalive_ns = 10 * SECOND
"""A client with open write sessions is heard of at least so often."""
contacts_flush_ns = 5 * SECOND
"""A service writes down so often which clients it has heard of."""
sessions_look_ns = 10 * SECOND
"""How often somebody looks for clients that are silent."""
session_silence_ns = 60 * SECOND
"""A client that nobody has heard of for so long is presumed dead."""
contacts_max = 65_536
"""Clients a service remembers to have heard of; the others are heard of again."""
contacts_per_step_max = 512
sessions_per_page_max = 512
"""Rows of clients and sessions that one read or transaction looks at."""
duty_lease_ns = 5 * SECOND
"""Of the service that does the duties for all on one store; if it dies, they rest for so long."""
meta_read_patience_ns = 250 * MILLISECOND
"""A metadata service that has not answered by then is not waited for alone: the request goes to another one as well."""
meta_change_patience_ns = 750 * MILLISECOND
"""The same for requests that change something: those wait for a disk."""
meta_suspect_ns = 5 * SECOND
"""How long other metadata services are preferred to one that did not answer."""

# --- time ------------------------------------------------------------------------------------------------------------
heartbeat_ns = 500 * MILLISECOND
heartbeat_attempt_ns = 500 * MILLISECOND
"""How long a node waits for the answer to one heartbeat before it looks for another primary."""
heartbeat_retry_ns = 50 * MILLISECOND
"""After a heartbeat that failed."""
lease_ns = 3 * SECOND
clock_drift_ns = 100 * MILLISECOND
"""What two monotonic clocks may disagree by in one lease."""
flight_deadline_ns = 10 * SECOND
"""Whoever asked for an update has an answer by then, even if it is that nobody knows yet."""
forward_timeout_min_ns = 3 * SECOND
"""A sending to the successor that is not answered for so long is repeated; doubles with each repetition."""
forward_timeout_max_ns = 10 * SECOND
forward_backoff_min_ns = 10 * MILLISECOND
"""Before repeating a sending that the successor refused; doubles with each repetition."""
forward_backoff_max_ns = 1 * SECOND
successor_silent_ns = 3 * SECOND
"""A target that has asked something of its successor and has heard nothing at all of it for so long says so to the manager. Not
shorter than the lease, so that a successor that is dead is nearly always taken out by its lease."""
successor_look_ns = 250 * MILLISECOND
"""How often a target that waits for its successor looks whether anything has been heard of it."""
rejoin_min_ns = 5 * SECOND
rejoin_max_ns = 5 * MINUTE
"""How long a target that was asked to leave its chain stays away; doubles with each time it was asked again."""
rejoin_settled_ns = 1 * MINUTE
"""One that has served for so long since is taken for well connected: it stays away for the shortest time again."""
call_timeout_ns = 30 * SECOND
attempt_timeout_ns = 5 * SECOND
"""One try of a repeatable request; then another node is asked."""
retry_backoff_min_ns = 2 * MILLISECOND
retry_backoff_max_ns = 500 * MILLISECOND
connect_timeout_ns = 5 * SECOND
connect_attempt_ns = 2500 * MILLISECOND
"""One attempt to connect: the first packet and one repetition of it. After a cut a fresh attempt is quicker than TCP's third."""
read_attempt_ns = 3 * SECOND
"""How long a read waits for one replica before it asks another."""
update_attempt_ns = 6 * SECOND
"""How long an update waits for the head before it is sent again, under the same tag."""
update_retry_ns_max = 10 * MINUTE
"""No client sends an update again for longer than this, whatever it was told. Far below the hour after which a target may
forget what it knows of an update channel."""
silence_tick_ns = 50 * MILLISECOND
silence_ticks = 5
"""A read whose node has sent nothing at all for so many ticks is taken to another replica, if one serves."""
bad_reports_max = 16
"""Reports of bad chunks one client has under way; further ones are left to whoever reads them next."""
suspect_ns = 10 * SECOND
"""How long a node that did not answer is asked last, unless it answers a probe or a request before."""
probe_timeout_ns = 1 * SECOND
probe_backoff_min_ns = 100 * MILLISECOND
probe_backoff_max_ns = 2 * SECOND
"""Between two probes of a node that did not answer; they run beside the calls, never in their way."""
slow_ns_per_byte = 60
"""Added to both for each byte under way: a link of 16 MB/s is slow, not broken."""
connect_backoff_min_ns = 5 * MILLISECOND
connect_backoff_max_ns = 500 * MILLISECOND
"""After a refused connection, calls fail at once for so long before the next attempt."""
peer_silent_ns = 2 * SECOND
"""A host that acknowledges nothing of what TCP sent it, data or probes, for so long has vanished: the connection is closed."""
connection_idle_ns_max = 5 * MINUTE
"""A server closes a connection on which nothing has arrived for so long, unless a stream is open on it; clients connect again
when they need to. It bounds how old a request can be when it arrives: one stuck in a network dies with its connection."""
receive_stall_ns = 10 * SECOND
"""A peer that has begun a frame and sends nothing of it for so long is disconnected."""
receive_rate_min = 1 * MIB
"""Bytes per second: a frame may take `receive_stall_ns` and the time this rate needs for it, then the peer is disconnected."""
send_stall_ns = 30 * SECOND
"""A peer that takes nothing of what is queued for it for so long is disconnected."""
tcp_keepalive_idle_s = 1
tcp_keepalive_interval_s = 1
"""An idle connection is probed so often, by the kernel. Whether probes are answered is looked at every `transport_sweep_ns`."""
tcp_unacknowledged_ms = 30_000
"""The kernel's own bound on unacknowledged data. It must outlast a peer that rests from reading, which acknowledges probes but
takes no data: that is why it is not what finds vanished hosts."""
accept_rest_ns = 500 * MILLISECOND
"""A listener that cannot accept (no descriptors left) tries again after so long."""
transport_sweep_ns = 1 * SECOND
"""How often connections are checked for stalls."""
log_interval_ns = 1 * SECOND
"""A repeated complaint about peers is logged at most so often."""

# --- management ------------------------------------------------------------------------------------------------------
manager_lease_ns = 1500 * MILLISECOND
"""Of the primary manager. Short enough that nodes find the next primary before their own leases run out."""
manager_renew_ns = 300 * MILLISECOND
manager_look_ns = 100 * MILLISECOND
"""How often a manager that is not the primary looks at the lease record."""
manager_read_ns = 1 * SECOND
"""One try of a request that the primary answers from memory; then another primary is looked for."""
manager_write_ns = 5 * SECOND
"""One try of a request that the primary stores first."""
manager_probe_ns = 1 * SECOND
"""One try of asking an address whether it is the primary."""
manager_probe_stagger_ns = 50 * MILLISECOND
"""Between the first tries of the addresses; then all are being asked at the same time."""
manager_probe_pause_min_ns = 20 * MILLISECOND
manager_probe_pause_max_ns = 200 * MILLISECOND
"""Between two tries of one address."""
managers_max = 16
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
watch_keepalive_ns = 2 * SECOND
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
lmdb_reader_check_commits = 256
"""How often a process looks for snapshots that processes killed meanwhile have left: until then their pages are not reused."""
lmdb_snapshot_rest_ns = 100 * MILLISECOND
"""A store that nobody has used for so long lets go of the state it has read."""
lmdb_slow_commit_ns = 2 * SECOND
"""A commit that waits so long for the lock or the disk is worth a line in the log."""
lmdb_crowded_commits = 16
"""So many commits after one that met another process' a store takes the lock before it runs operations, not after."""

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
assert connect_backoff_min_ns <= connect_backoff_max_ns < connect_attempt_ns < connect_timeout_ns
assert silence_ticks * silence_tick_ns < read_attempt_ns
assert probe_backoff_min_ns <= probe_backoff_max_ns < suspect_ns
assert call_timeout_ns < update_retry_ns_max
assert 2 * (update_retry_ns_max + connection_idle_ns_max) <= channel_forget_ns
assert transport_sweep_ns < peer_silent_ns < receive_stall_ns <= send_stall_ns < connection_idle_ns_max
assert 3 * heartbeat_ns <= lease_ns
assert heartbeat_retry_ns < heartbeat_attempt_ns <= heartbeat_ns
assert 3 * manager_renew_ns <= manager_lease_ns
assert manager_look_ns <= manager_renew_ns
# When the primary dies right after it renewed, and a node's last acknowledged heartbeat is as old as it can be, the next
# primary is there and found before the node's lease has run out.
assert manager_look_ns + manager_lease_ns + clock_drift_ns + manager_probe_pause_max_ns + heartbeat_ns < lease_ns
assert manager_probe_pause_min_ns <= manager_probe_pause_max_ns < manager_probe_ns <= manager_read_ns <= manager_write_ns
assert manager_write_ns < call_timeout_ns
assert clock_drift_ns < lease_ns
assert lease_ns <= successor_silent_ns
assert 4 * successor_look_ns <= successor_silent_ns
assert probe_timeout_ns < successor_silent_ns
assert rejoin_min_ns <= rejoin_max_ns
assert successor_silent_ns < rejoin_min_ns < rejoin_settled_ns
assert 2 * (session_keepalive_ns + contacts_flush_ns + sessions_look_ns) <= session_silence_ns
assert meta_read_patience_ns <= meta_change_patience_ns < attempt_timeout_ns
assert transactions_per_turn_max <= transactions_per_commit_max <= transactions_waiting_max
assert batch_items_max <= transactions_waiting_max
assert stripe_max <= keys_per_find_max
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
assert resync_retry_min_ns <= resync_retry_max_ns
assert repair_retry_min_ns <= repair_retry_max_ns
assert resync_ranges_at_once <= resync_ranges_per_request_max
assert resync_list_rows <= list_entries_max
assert resync_channels_per_request <= channel_rows_per_merge_max
assert throttle_bytes_per_second_min <= scrub_bytes_per_second_default <= throttle_bytes_per_second_max
assert lease_ns < update_attempt_ns < flight_deadline_ns < call_timeout_ns
