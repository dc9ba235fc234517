import pytest

from meshkit.address import grpc_target
from meshkit.options import MAX_MESSAGE_BYTES, Options, etcd_options, instance_options, server_options

CHANNELS = {"instance": instance_options(), "etcd": etcd_options()}
ALL = {**CHANNELS, "server": server_options()}


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_no_option_is_there_twice_and_each_is_one_that_grpc_takes(options: Options) -> None:
    names = [name for name, _ in options]
    assert sorted(names) == sorted(set(names))
    assert all(name.startswith("grpc.") for name in names)


@pytest.mark.parametrize("options", CHANNELS.values(), ids=CHANNELS)
def test_a_channel_goes_its_own_way_and_has_time_to_connect(options: Options) -> None:
    table = dict(options)
    assert (table["grpc.enable_http_proxy"], table["grpc.enable_retries"], table["grpc.use_local_subchannel_pool"]) == (
        0,
        0,
        1,
    )
    assert int(table["grpc.min_reconnect_backoff_ms"]) >= 10_000, "round trips of 1.5 s, four and more of them with TLS"
    assert int(table["grpc.dns_min_time_between_resolutions_ms"]) <= 1_000


def test_a_dead_connection_to_an_instance_is_found_within_5_s_without_a_call() -> None:
    table = dict(instance_options())
    assert int(table["grpc.keepalive_time_ms"]) + int(table["grpc.http2.ping_timeout_ms"]) <= 5_000
    assert table["grpc.keepalive_permit_without_calls"] == 1
    assert table["grpc.http2.max_pings_without_data"] == 0


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_both_of_grpcs_time_outs_of_a_ping_are_set(options: Options) -> None:
    table = dict(options)
    assert table["grpc.keepalive_timeout_ms"] == table["grpc.http2.ping_timeout_ms"]


def test_the_server_allows_what_the_client_does() -> None:
    client, server = dict(instance_options()), dict(server_options())
    assert int(server["grpc.http2.min_ping_interval_without_data_ms"]) * 2 <= int(client["grpc.keepalive_time_ms"])
    assert server["grpc.keepalive_permit_without_calls"] == 1


def test_etcd_is_pinged_as_seldom_as_it_allows_and_never_without_a_stream() -> None:
    table = dict(etcd_options())
    assert int(table["grpc.keepalive_time_ms"]) > 5_000
    assert "grpc.keepalive_permit_without_calls" not in table


def test_both_sides_cap_what_they_receive() -> None:
    for options in (instance_options(), server_options()):
        assert dict(options)["grpc.max_receive_message_length"] == MAX_MESSAGE_BYTES == 64 * 1024
    for options in (instance_options(1000), server_options(1000)):
        assert dict(options)["grpc.max_receive_message_length"] == 1000


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("dns:2379", "dns:///dns:2379"),
        ("unix:50051", "dns:///unix:50051"),
        ("xds:1", "dns:///xds:1"),
        ("vsock:1", "dns:///vsock:1"),
        ("etcd.mesh.svc.cluster.local:2379", "dns:///etcd.mesh.svc.cluster.local:2379"),
        ("127.0.0.1:50051", "ipv4:127.0.0.1:50051"),
        ("[::1]:50051", "ipv6:[::1]:50051"),
    ],
)
def test_an_address_is_never_read_as_another_kind_of_target(address: str, target: str) -> None:
    assert grpc_target(address) == target
