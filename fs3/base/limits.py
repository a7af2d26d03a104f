"""Every limit of fs3 in one place, with the relations between them asserted.

A limit that is reached answers `BUSY`, `TOO_LARGE`, `NO_SPACE` or a named error; nothing grows without one.
"""

from __future__ import annotations

from fs3.base.units import GIB, KIB, MIB, MILLISECOND, MINUTE, SECOND

# --- names and paths -------------------------------------------------------------------------------------------------
name_bytes_max = 255
symlinks_followed_max = 40

# --- frames and calls ------------------------------------------------------------------------------------------------
frame_header_bytes_max = 1 * MIB
"""Protobuf part of one frame."""
frame_payload_bytes_max = 64 * MIB + 1 * MIB
"""Payload part of one frame: one chunk of the largest size, with room for what stands in front of a page."""
calls_per_connection_max = 1024
"""Requests under way on one connection; further ones wait in the client, and a server that sees more answers BUSY."""
receive_bytes_max = 112 * MIB
"""Request payloads of clients that one server process holds at once; connections stop being read beyond it."""
receive_forward_bytes_max = 112 * MIB
"""The same for what storage nodes forward to each other: forwards never wait for clients."""
receive_header_bytes_max = 8 * MIB
"""The same for protobuf headers longer than `long_header_bytes`."""
receive_step_bytes = 256 * KIB
"""Memory is given to a request this far ahead of what has arrived of it; once more has arrived, as far ahead as that, and
`wake_bytes_max` at most."""
receive_unfinished_bytes_max = 24 * MIB
"""Of a budget, held by requests that need more before they are complete, all but one of them together."""
receive_share_bytes_max = 32 * MIB
"""Request payloads of one connection, arriving or with their handlers; a single larger one is served alone."""
reply_bytes_max = 256 * MIB
"""Replies in memory that one server process holds at once, or has promised to calls under way. Requests are not served beyond
it."""
reply_share_bytes_max = 64 * MIB
"""Of that, what one connection may hold before its requests are no longer read; a single larger one is served."""
reply_small_bytes = 256 * KIB
"""Requests whose replies are not larger are served by those who owe nothing, from what is kept for them, however many wait."""
reply_small_bytes_max = 32 * MIB
"""Kept for those."""
connections_max = 4096
stranger_connections_max = 1024
"""Of those, in a cluster with security, how many may have proved nothing: a flood of them leaves room for the others."""
stranger_connections_per_origin_max = 256
"""From one address, or from one user of this host."""
stranger_calls_max = 256
"""Requests of all of them that are with their handlers."""
principal_connections_max = 2048
"""Of one user or node, to one listener's process."""
principal_calls_max = 8192
"""Requests of one user or node that are with their handlers, over all its connections; further ones are answered BUSY."""
principal_request_bytes_max = 64 * MIB
"""Request payloads of one user, arriving or with their handlers, over all its connections: the rest of `receive_bytes_max` is for
the others. Nodes are not held to it."""
principal_reply_bytes_max = 128 * MIB
"""The same of its replies, of `reply_bytes_max`."""
stranger_request_bytes_max = 1 * MIB
"""Of all callers together that have proved nothing: what they may ask is short."""
stream_queue_bytes_max = 4 * MIB
"""Messages of one streamed answer queued on either side; a consumer that falls further behind loses the stream (BUSY)."""
staging_bytes = 256 * KIB
"""Read from a connection in one go while looking for frames; one such buffer per event loop."""
long_header_bytes = 16 * KIB
"""Longer protobuf headers are received into a buffer of their own, so that half a header never occupies more than this."""
wake_bytes_max = 1 * MIB
"""Received or sent by one connection before the others get their turn."""
copied_parts_bytes_max = 16 * KIB
"""Payloads up to this size are copied behind their header: cheaper than to gather them."""

# --- batches ---------------------------------------------------------------------------------------------------------
ios_per_read_max = 1024
updates_per_request_max = 256
keys_per_find_max = 8192
blocks_per_locate_max = 32
"""Blocks of which one answer says where they are."""
batch_items_max = 4096
batch_stat_paths_max = 1024
"""A client splits larger batches, so that nobody waits long behind one."""
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
"""Largest block of the chunk store: a chunk of the largest size, and what stands in front of a page."""
inline_chunk_bytes_max = 2 * KIB
"""Chunks up to this size live in the index row."""
small_read_bytes = 64 * KIB
"""Ranges shorter than this are read into memory, verified and coalesced; longer ones leave by sendfile."""
bad_chunks_max = 65_536
"""Chunks one target keeps marked as bad."""
scrub_rows_max = 256
"""Chunks one step of a scrub looks at."""
stripe_max = 1024
stripe_default = 8
file_bytes_max = 1 << 60
"""More would not fit into the names of the updates that cut a file (`fs3.core.files.trim_plan`), of which all services make the
same."""

# --- replication -----------------------------------------------------------------------------------------------------
channels_per_target_max = 1 << 20
"""Channel rows of one target before updates of new channels are BUSY; about 150 bytes of the index each."""
channel_forget_ns = 60 * MINUTE
"""Running time of a target after which its channel epoch advances; a row is forgotten between one and two of these unused."""
channel_rows_per_merge_max = 1024
replicas_max = 16

# --- storage clients and services ------------------------------------------------------------------------------------
read_frame_bytes = 4 * MIB
"""A client cuts larger batches, so that one reply is verified while the next arrives; a single IO may be larger."""
update_single_bytes = 1 * MIB
"""An update of this size travels in a frame of its own."""
lent_bytes_max = 12 * MIB
parked_bytes_max = 8 * MIB
"""Bytes of request buffers that may be kept while another node, or another update of the chunk, is waited for; see
`fs3.services.storage.forwarding.payloads`."""
resync_fills_max = 64
resync_bytes_max = 32 * MIB
"""Chunks, and bytes of them, that one target may have under way to bring its successor up to date."""
resync_range_chunks = 128
"""Chunks one digest is made of."""
resync_ranges_per_request_max = 16
resync_ranges_at_once = 8
"""Digests made in one step, which holds up everything else of the process for a few milliseconds."""
resync_list_rows = 512
"""Rows a successor is asked for at once; also keys of chunks that are known to differ and wait for their turn."""
resync_channels_per_request = 1024
"""Channel rows handed over at once."""
resync_retry_min_ns = 20 * MILLISECOND
resync_retry_max_ns = 1 * SECOND
"""Before a request of a resync that failed is sent again; doubles with each failure in a row."""
background_wait_ns_max = 1 * SECOND
"""How often a scrub looks whether it may go on, and after how long it does a step anyway."""
throttle_bytes_per_second_min = 64 * KIB
throttle_bytes_per_second_max = 1 << 40
throttle_burst_ns = 100 * MILLISECOND
"""A rate may be exceeded by what it allows in so long."""
repair_retry_min_ns = 1 * SECOND
repair_retry_max_ns = 60 * SECOND
"""Before a bad chunk that no other replica could give is asked for again."""
scrub_bytes_per_second_default = 16 * MIB

# --- native client and fsspec ------------------------------------------------------------------------------------------
client_write_call_bytes = 8 * MIB
client_write_bytes_max = 64 * MIB
"""Written bytes one client has under way; further writes wait for their turn. Copies hold as much."""

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
requests_remembered_ns = 30 * MINUTE
check_rows_per_page = 512
"""Rows of the namespace that one request of a check looks at; the service does nothing else meanwhile."""
inspect_inodes_max = 1024
"""Inodes that one request of a check asks about."""
check_rounds_max = 6
"""How often a check looks again at what is changing."""

inline_bytes_default = 16 * KIB
"""Files up to this size are kept in the metadata store, unless a service is told otherwise."""
inline_bytes_max = 64 * KIB
"""The most that a service can be told: a row of the store, and a part of one request."""

append_renewal_ns = 500 * MILLISECOND
"""The holder of the turn to append to a file says so often that it goes on."""
append_silence_ns = 2 * SECOND
"""A turn that was not renewed for so long is taken over by an appender that waits for it. That is safe at any time, and this long
polite."""
append_turn_wait_ns = 500 * MILLISECOND
"""A metadata service keeps a request for the turn so long while another session has it, instead of refusing it at once."""
append_proof_ns = 60 * SECOND
"""An appender that was stopped for longer asks whether the turn is still its own before it sends anything."""

session_keepalive_ns = 10 * SECOND
"""A client with open write sessions or locks is heard of at least so often."""
open_contents_per_request_max = 512
"""Contents that a client has open for reading and tells of with one request."""
garbage_delay_ns = 60 * SECOND
"""What is removed is reclaimed after so long, which gives clients that read it time to say so."""
last_seen_flush_ns = 5 * SECOND
"""A service writes down so often which clients it has heard of."""
sessions_check_ns = 10 * SECOND
"""How often somebody looks for clients that are silent."""
client_presumed_dead_ns = 60 * SECOND
"""A client that nobody has heard of for so long is presumed dead."""
meta_read_hedge_ns = 250 * MILLISECOND
"""A metadata service that has not answered by then is not waited for alone: the request goes to another one as well."""
meta_change_hedge_ns = 750 * MILLISECOND
"""The same for requests that change something: those wait for a disk."""

# --- machines and settings ---------------------------------------------------------------------------------------------
machine_key_bytes = 32
"""Random bytes by which a machine of a cluster is known."""
machine_addresses_max = 16
"""Names and addresses of a machine's certificate, and those that a token allows."""
settings_max = 60
"""Settings of a cluster."""

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
successor_unresponsive_ns = 3 * SECOND
"""A target that has asked something of its successor and has heard nothing at all of it for so long says so to the manager. Not
shorter than the lease, so that a successor that is dead is nearly always taken out by its lease."""
successor_check_ns = 250 * MILLISECOND
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
liveness_tick_ns = 50 * MILLISECOND
liveness_idle_ticks_max = 5
"""A read whose node has sent nothing at all for so many ticks is taken to another replica, if one serves."""
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
peer_unresponsive_ns = 2 * SECOND
"""A host that acknowledges nothing of what TCP sent it, data or probes, for so long has vanished: the connection is closed."""
connection_idle_ns_max = 5 * MINUTE
"""A server closes a connection on which nothing has arrived for so long, unless a stream is open on it; clients connect again
when they need to. It bounds how old a request can be when it arrives: one stuck in a network dies with its connection."""
tls_handshake_ns = 10 * SECOND
"""A client that has not finished its TLS handshake for so long is disconnected."""
tls_handshakes_max = 256
"""TLS handshakes of one listener that are not done; when one more begins, the oldest of them ends."""
authentication_ns = 10 * SECOND
"""A connection that has proved nothing for so long is closed, in a cluster with security."""
receive_stall_ns = 10 * SECOND
"""A peer that has begun a frame and sends nothing of it for so long is disconnected."""
send_stall_ns = 30 * SECOND
"""A peer that takes nothing of what is queued for it for so long is disconnected."""
peer_patience_ns = 2 * SECOND
"""A peer that holds memory others wait for may be too slow for so long."""
transport_sweep_ns = 1 * SECOND
"""How often connections are checked for stalls."""

# --- management ------------------------------------------------------------------------------------------------------
manager_lease_ns = 1500 * MILLISECOND
"""Of the primary manager. Short enough that nodes find the next primary before their own leases run out."""
manager_renew_ns = 300 * MILLISECOND
manager_lease_poll_ns = 100 * MILLISECOND
"""How often a manager that is not the primary looks at the lease record."""
manager_read_ns = 1 * SECOND
"""One try of a request that the primary answers from memory; then another primary is looked for."""
manager_write_ns = 5 * SECOND
"""One try of a request that the primary stores first."""
manager_probe_ns = 1 * SECOND
"""One try of asking an address whether it is the primary."""
manager_probe_pause_min_ns = 20 * MILLISECOND
manager_probe_pause_max_ns = 200 * MILLISECOND
"""Between two tries of one address."""
manager_lock_lease_ns = 1 * SECOND
"""As `lmdb_lock_lease_ns`, in the managers' store. A primary that stands still with the write lock has lost it by the time
another manager may take over, and so holds up nobody."""
managers_max = 16
nodes_max = 4096
targets_per_node_max = 256
reserve_bytes = 4 * MIB
"""Kept on each disk of a storage node for its own small files (`node.json`, `target.json`)."""
reserve_step_bytes = 64 * KIB
"""Given back at once when one of them finds no room."""
generations_kept_max = 16
"""In the directory of one target. After so many starts that never reached the manager the newest is used again, rather than
forgetting one that the manager may have stored."""
tables_max = 64
routing_bytes_max = 3 * MIB
"""Encoded size of the whole routing info, which is queued on one stream. About 70 000 chains of three."""
routing_message_bytes_max = 512 * KIB
"""Of routing info in one message: what is larger is read in parts."""
routing_part_bytes = 256 * KIB
"""Of one part."""
status_message_bytes_max = 768 * KIB
"""Of a status in one message; about 10 000 targets."""
watch_keepalive_ns = 2 * SECOND
"""A watch stream that says nothing for three times as long is taken for broken."""
config_bytes_max = 64 * KIB
"""Distributed configuration of one role."""
target_reason_bytes_max = 200
reconnect_backoff_min_ns = 20 * MILLISECOND

# --- KVCache ---------------------------------------------------------------------------------------------------------
page_bytes_max = 64 * MIB
page_header_bytes = 64
page_key_bytes_max = 4096
"""The key stands in the page's chunk, between its header and the page."""
content_bytes_max = max(chunk_bytes_max, page_header_bytes + page_key_bytes_max + page_bytes_max)
"""Bytes of any chunk: of a file, or of a page with its header and key."""
namespace_name_bytes_max = 255
owner_bytes_max = 255
"""Of the text that says whom a namespace belongs to."""
tenant_bytes_max = 255
"""Of the name of a tenant."""
namespaces_max = 1 << 16
"""At one time: the manager and each storage node have them in memory."""
namespaces_per_page_max = 512
"""Namespaces in one answer to ListNamespaces."""
cache_bytes_max = 1 << 60
"""The largest budget of a namespace."""
ttl_ms_max = 10 * 366 * 24 * 3600 * 1000
"""The longest life of a page that can be set."""
page_lease_ms_max = 60_000
"""The longest that a lookup can lease the pages it found: what a worker that has died keeps from eviction ends by then."""
leased_pages_max = 1 << 18
"""Pages in the leases of one storage node, each as often as it is leased; a lookup beyond is answered without a lease."""
pin_ms_max = 7 * 24 * 3600 * 1000
"""The longest that a pin with an end can last."""
page_events_max = 65_536
"""Events that one target keeps, of all namespaces together; the oldest are forgotten first."""
page_events_per_reply_max = 1024
page_event_reply_bytes_max = 512 * KIB
"""Events in one answer, and bytes of their keys: it travels as one frame header."""
page_event_wait_ms_max = 10_000
"""How long a question for events waits for the next one before it is answered that there is none."""
usage_rows_max = 1024
"""Namespaces in one answer about usage."""
reported_lookups_max = 1 << 40
"""Lookups, and keys of them, in one report of a client."""

cache_wait_ns_max = 2 * SECOND
"""How long the head of a chain lets a put wait until room is made for it."""
evictions_at_once_max = 64
"""Pages one target removes at once to make room."""
touched_pages_max = 16_384
"""Of what was read of one target and not told to its other replicas yet; what is beyond is forgotten."""

# --- embedded stores -------------------------------------------------------------------------------------------------
lmdb_map_bytes_default = 64 * GIB
"""Address space, not disk or memory."""
lmdb_map_bytes_max = 1024 * GIB
"""How far a full map is grown."""
lmdb_lock_lease_ns = lease_ns
"""A process that has the write lock of a shared store and gives no sign for so long is killed by one that waits for it."""

# --- security --------------------------------------------------------------------------------------------------------
ticket_lifetime_ms = 60_000
"""Who a caller has proved to be counts for so long, of the time of the cluster; clients prove it again before."""
security_silence_ns = 10 * SECOND
"""A service that has heard nothing of the manager for so long checks no ticket and no capability: it refuses them."""
capability_lifetime_ms = 50_000
"""For how long a storage node is shown the same capability. Clients get a new one when half of it is over."""
capabilities_per_request_max = 4096
"""A request shows at most so many, and so many are asked for at once."""
capabilities_per_connection_max = 1 << 16
"""What a storage node keeps of those that one connection has shown. Clients show those again that are forgotten."""
cluster_time_ahead_ms = 5_000
"""The manager stores a time that is ahead of the time by this at most; the next primary begins there."""
cluster_time_late_ms = 1_000
"""So late a process may be told the time of the cluster, at most."""

key_rotation_ms = 3_600_000
"""A key seals for so long, then another one does."""
key_settle_ms = 15_000
"""Services have a key for so long before it seals, so that all that do not fail closed know it."""
user_certificates_max = 16
user_groups_max = 64

assert security_silence_ns < key_settle_ms * MILLISECOND
assert key_settle_ms + ticket_lifetime_ms < key_rotation_ms // 4
assert cluster_time_ahead_ms + cluster_time_late_ms < ticket_lifetime_ms // 4
# A node whose clock is late takes a capability for longer: for no longer than a ticket lives.
assert capability_lifetime_ms + cluster_time_late_ms <= ticket_lifetime_ms
assert ios_per_read_max <= capabilities_per_request_max <= capabilities_per_connection_max
assert lease_ns < security_silence_ns
assert client_write_call_bytes <= client_write_bytes_max
assert content_bytes_max <= block_bytes_max
# A put that waits for room is answered before its client sends it again; the flight that follows has its own deadline.
assert cache_wait_ns_max < update_attempt_ns
assert evictions_at_once_max <= resync_fills_max * 4
assert touched_pages_max * 16 <= frame_header_bytes_max // 2
assert namespaces_per_page_max * (namespace_name_bytes_max + owner_bytes_max + tenant_bytes_max + 100) <= frame_header_bytes_max
assert frame_payload_bytes_max >= content_bytes_max
assert keys_per_find_max <= leased_pages_max
assert page_events_per_reply_max <= page_events_max
assert page_event_reply_bytes_max + 64 * page_events_per_reply_max < frame_header_bytes_max
assert usage_rows_max * 320 < frame_header_bytes_max
assert page_event_wait_ms_max * MILLISECOND < call_timeout_ns
assert receive_step_bytes <= wake_bytes_max <= receive_unfinished_bytes_max
assert stranger_connections_per_origin_max <= stranger_connections_max <= connections_max // 4
assert principal_connections_max <= connections_max - stranger_connections_max
assert receive_share_bytes_max < principal_request_bytes_max <= receive_bytes_max - receive_share_bytes_max
assert reply_share_bytes_max < principal_reply_bytes_max <= reply_bytes_max - reply_share_bytes_max
assert stranger_request_bytes_max <= receive_header_bytes_max // 4
assert stranger_calls_max < calls_per_connection_max <= principal_calls_max
assert transport_sweep_ns < authentication_ns < connection_idle_ns_max
assert 2 * update_bytes_per_request_max <= receive_share_bytes_max <= receive_bytes_max // 2
assert receive_share_bytes_max <= receive_forward_bytes_max // 2
assert 2 * frame_header_bytes_max <= receive_header_bytes_max
assert 2 * read_bytes_per_request_max <= reply_share_bytes_max <= reply_bytes_max // 4
assert reply_small_bytes < reply_small_bytes_max <= reply_bytes_max // 8
assert transport_sweep_ns < peer_patience_ns < receive_stall_ns
assert connect_attempt_ns < tls_handshake_ns < connection_idle_ns_max
assert tls_handshakes_max < connections_max
assert update_bytes_per_request_max <= frame_payload_bytes_max
assert request_bytes_max + 64 * KIB <= frame_header_bytes_max
assert batch_stat_paths_max <= batch_items_max
assert attempt_timeout_ns < call_timeout_ns
assert long_header_bytes < staging_bytes <= wake_bytes_max
assert frame_header_bytes_max <= stream_queue_bytes_max
assert connect_backoff_min_ns <= connect_backoff_max_ns < connect_attempt_ns < connect_timeout_ns
assert liveness_idle_ticks_max * liveness_tick_ns < read_attempt_ns
assert probe_backoff_min_ns <= probe_backoff_max_ns < suspect_ns
assert call_timeout_ns < update_retry_ns_max
assert 2 * (update_retry_ns_max + connection_idle_ns_max) <= channel_forget_ns
assert append_turn_wait_ns < meta_change_hedge_ns
assert 2 * append_renewal_ns <= append_silence_ns < append_proof_ns
# An update of a turn that was taken over arrives while the channel rows of later turns are there.
assert append_proof_ns + update_retry_ns_max + connection_idle_ns_max <= channel_forget_ns
assert transport_sweep_ns < peer_unresponsive_ns < receive_stall_ns <= send_stall_ns < connection_idle_ns_max
assert 3 * heartbeat_ns <= lease_ns
assert heartbeat_retry_ns < heartbeat_attempt_ns <= heartbeat_ns
assert 3 * manager_renew_ns <= manager_lease_ns
assert manager_lease_poll_ns <= manager_renew_ns
# A primary takes the lock at the latest `manager_renew_ns` after the last renewal that others saw; they look 8 times a lease.
assert manager_renew_ns + manager_lock_lease_ns + 2 * manager_lock_lease_ns // 8 <= manager_lease_ns + clock_drift_ns
# When the primary dies right after it renewed, and a node's last acknowledged heartbeat is as old as it can be, the next
# primary is there and found before the node's lease has run out.
assert manager_lease_poll_ns + manager_lease_ns + clock_drift_ns + manager_probe_pause_max_ns + heartbeat_ns < lease_ns
assert manager_probe_pause_min_ns <= manager_probe_pause_max_ns < manager_probe_ns <= manager_read_ns <= manager_write_ns
assert manager_write_ns < call_timeout_ns
assert clock_drift_ns < lease_ns
assert lease_ns <= successor_unresponsive_ns
assert 4 * successor_check_ns <= successor_unresponsive_ns
assert probe_timeout_ns < successor_unresponsive_ns
assert rejoin_min_ns <= rejoin_max_ns
assert successor_unresponsive_ns < rejoin_min_ns < rejoin_settled_ns
assert 2 * (session_keepalive_ns + last_seen_flush_ns + sessions_check_ns) <= client_presumed_dead_ns
# A reader's file is told of by the second keep-alive after its open; there is time for another one and for an outage.
assert 4 * session_keepalive_ns < garbage_delay_ns
assert meta_read_hedge_ns <= meta_change_hedge_ns < attempt_timeout_ns
assert inline_bytes_default <= inline_bytes_max <= chunk_bytes_min
assert 4 * inline_bytes_max <= request_bytes_max
assert transactions_per_turn_max <= transactions_per_commit_max <= transactions_waiting_max
assert batch_items_max <= transactions_waiting_max
assert stripe_max <= keys_per_find_max
assert lmdb_map_bytes_default <= lmdb_map_bytes_max
assert inline_chunk_bytes_max < chunk_bytes_min
assert inline_chunk_bytes_max <= small_read_bytes
assert routing_part_bytes <= routing_message_bytes_max < frame_header_bytes_max
assert status_message_bytes_max < frame_header_bytes_max
assert routing_bytes_max + frame_header_bytes_max <= stream_queue_bytes_max
assert config_bytes_max < frame_header_bytes_max
assert forward_backoff_min_ns < forward_backoff_max_ns <= forward_timeout_min_ns <= forward_timeout_max_ns
assert forward_timeout_min_ns < flight_deadline_ns < call_timeout_ns
assert read_frame_bytes <= read_bytes_per_request_max
assert update_bytes_per_request_max <= parked_bytes_max
# One frame of the largest size can always be received to its end, whatever the others have and however many wait for somebody.
unfinished_and_kept_bytes_max = lent_bytes_max + parked_bytes_max + receive_unfinished_bytes_max
assert unfinished_and_kept_bytes_max + frame_payload_bytes_max <= min(receive_bytes_max, receive_forward_bytes_max)
assert update_single_bytes <= update_bytes_per_request_max
assert resync_retry_min_ns <= resync_retry_max_ns
assert repair_retry_min_ns <= repair_retry_max_ns
assert resync_ranges_at_once <= resync_ranges_per_request_max
assert resync_list_rows <= list_entries_max
assert resync_channels_per_request <= channel_rows_per_merge_max
assert throttle_bytes_per_second_min <= scrub_bytes_per_second_default <= throttle_bytes_per_second_max
assert reserve_step_bytes <= reserve_bytes
assert lease_ns < update_attempt_ns < flight_deadline_ns < call_timeout_ns
