"""The one table of gRPC's options: what every channel and every server of the mesh is opened with.

Names and meanings: grpc/impl/channel_arg_names.h and doc/keepalive.md of https://github.com/grpc/grpc.
"""

from __future__ import annotations

__all__ = ["MAX_MESSAGE_BYTES", "Options", "etcd_options", "instance_options", "server_options"]

Options = tuple[tuple[str, int | str], ...]

# protobuf's pure-Python decoder is slow and blocks the event loop: larger messages are refused unread, on both sides.
MAX_MESSAGE_BYTES = 64 * 1024
# etcd answers with lists: some 40,000 registrations.
MAX_ETCD_MESSAGE_BYTES = 4 * 1024 * 1024

# All headers of a call, or of its answer. Both limits alike: in between gRPC would refuse at random.
MAX_METADATA_BYTES = 16 * 1024
METADATA: Options = (
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
)

CHANNEL: Options = (
    *METADATA,
    # gRPC shares connections by address, and with them the reconnect backoff (up to two minutes) of an instance that
    # died there: a new one at that address would stay unreachable.
    ("grpc.use_local_subchannel_pool", 1),
    # The channel's own retries stay on the instance; `Retry` moves on to another.
    ("grpc.enable_retries", 0),
    # Neither instances nor etcd are behind the HTTP proxy that `http_proxy` names.
    ("grpc.enable_http_proxy", 0),
    # Tried again soon, as the peer may be back any moment.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Despite its name, the time that connecting may take: TCP, TLS and HTTP/2's settings are four round trips.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    # A name may lead elsewhere by now. gRPC's default: ask again after 30 s at the earliest.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
)


def instance_options(max_message_bytes: int = MAX_MESSAGE_BYTES) -> Options:
    """Options of a channel to an instance: a dead connection is found within 4.5 s, whether there are calls or not.

    A server that allows no such pings (grpc-go's default: none without a call, one in 5 minutes with one) closes a
    connection on which it has sent nothing for four pings. gRPC connects anew, with twice the time between pings,
    and so on until the server accepts that. An idle channel is not disturbed. A call in flight at that moment, after 8
    s or more without an answer, fails with UNAVAILABLE and can be made again.

    Args:
        max_message_bytes: of an answer; a larger one fails the call with RESOURCE_EXHAUSTED, unread. Default 64 KiB.
    """
    return (
        *CHANNEL,
        ("grpc.max_receive_message_length", max_message_bytes),
        *_pings(every=2.0, answer_within=2.5),
        ("grpc.keepalive_permit_without_calls", 1),
    )


def etcd_options() -> Options:
    """Options of a channel to a member of etcd: a dead connection with a watch on it is found within 8.5 s by pings.

    etcd allows pings every 5 s (its flag --grpc-keepalive-min-time), and none without a request or a watch.
    """
    return (
        *CHANNEL,
        ("grpc.max_receive_message_length", MAX_ETCD_MESSAGE_BYTES),
        *_pings(every=6.0, answer_within=2.5),
    )


def server_options(max_message_bytes: int = MAX_MESSAGE_BYTES) -> Options:
    """Options of a server.

    Clients may ping as often as every half a second, with and without calls. The connection of a client that has
    silently gone is closed within 10 s, and that of a client without a call for 5 minutes, which connects again when it
    needs to.

    Args:
        max_message_bytes: of a request; a larger one fails with RESOURCE_EXHAUSTED, unread. Default 64 KiB.
    """
    return (
        *METADATA,
        ("grpc.max_receive_message_length", max_message_bytes),
        # A port that is taken is an error, not something to share.
        ("grpc.so_reuseport", 0),
        # A connection on which nothing arrives is closed after this time, not after gRPC's two minutes.
        ("grpc.server_handshake_timeout_ms", 10_000),
        # So is one that never acknowledges HTTP/2's settings, for which gRPC allows a minute.
        ("grpc.http2.settings_timeout", 5_000),
        # Calls of one connection at a time; a client holds further ones back until others have ended. gRPC also counts
        # calls that the client has reset and the server has not cleaned up yet (CVE-2023-44487), and refuses those
        # above the limit. Without room for them it would refuse well-behaved clients whose last calls are not cleaned
        # up yet.
        ("grpc.max_concurrent_streams", 100),
        ("grpc.http2.max_deallocating_streams", 100),
        *_pings(every=5.0, answer_within=5.0),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
        ("grpc.max_connection_idle_ms", 300_000),
    )


def _pings(*, every: float, answer_within: float) -> Options:
    """Ping a peer that has been silent for `every` seconds, and close the connection unless it answers in time."""
    time_out = round(answer_within * 1000)
    return (
        ("grpc.keepalive_time_ms", round(every * 1000)),
        ("grpc.keepalive_timeout_ms", time_out),
        # The time-out above is of no effect where the kernel of a frozen peer acknowledges; this one is a minute by
        # default (GRPC_ARG_PING_TIMEOUT_MS in chttp2's internal.h).
        ("grpc.http2.ping_timeout_ms", time_out),
        ("grpc.http2.max_pings_without_data", 0),
    )
