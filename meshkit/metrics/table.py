"""Every metric: its name, type, labels, what it says, and where its name is from. docs/metrics.md is made of this."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["METRICS", "Metric", "as_markdown"]


class Metric(NamedTuple):
    """One metric, as Prometheus sees it.

    Args:
        name: without the ending `_total` of a counter.
        type: `counter`, `gauge` or `histogram`.
        labels: their names.
        help: what it says; ends without a full stop, as usual there.
        source: the gRPC proposal that publishes the name; none: the mesh's own.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    source: str = ""


_TARGET = ("grpc_target",)
_METHOD = ("grpc_method",)
_METHOD_TARGET = _METHOD + _TARGET
_STATUS = ("grpc_status",)
_A66, _A91, _A94, _A96 = "A66", "A91", "A94", "A96"

METRICS = (
    Metric(
        "grpc_client_attempt_started", "counter", _METHOD_TARGET, "Attempts that began, those under way included", _A66
    ),
    Metric(
        "grpc_client_attempt_duration_seconds",
        "histogram",
        _METHOD_TARGET + _STATUS,
        "How long attempts took, each a call on one instance's channel",
        _A66,
    ),
    Metric(
        "grpc_client_call_duration_seconds",
        "histogram",
        _METHOD_TARGET + _STATUS,
        "How long calls took with all their attempts, those that were refused on this side included",
        _A66,
    ),
    Metric(
        "grpc_client_call_retries",
        "histogram",
        _METHOD_TARGET,
        "Retries of a call that had at least one",
        _A96,
    ),
    Metric(
        "grpc_lb_outlier_detection_ejections_enforced",
        "counter",
        (*_TARGET, "grpc_lb_outlier_detection_detection_method"),
        "Ejections of instances, by what gave them away: consecutive_failures, failure_percentage or probation",
        _A91,
    ),
    Metric(
        "grpc_subchannel_connection_attempts_succeeded", "counter", _TARGET, "Connections to instances that stood", _A94
    ),
    Metric(
        "grpc_subchannel_connection_attempts_failed",
        "counter",
        _TARGET,
        "Connections to instances that failed; only the first of a row",
        _A94,
    ),
    Metric("grpc_subchannel_disconnections", "counter", _TARGET, "Connections to instances that were lost", _A94),
    Metric("grpc_subchannel_open_connections", "gauge", _TARGET, "Connections to instances that stand", _A94),
    Metric("grpc_server_call_started", "counter", _METHOD, "Calls that began, those under way included", _A66),
    Metric(
        "grpc_server_call_duration_seconds",
        "histogram",
        _METHOD + _STATUS,
        "How long calls took in this server; a method that it does not have is named other",
        _A66,
    ),
    Metric("meshkit_build_info", "gauge", ("program", "version"), "1, for the program's version"),
    Metric(
        "meshkit_instances",
        "gauge",
        (*_TARGET, "state"),
        "Instances by state: connecting, ready, ejected, probation (back, not trusted yet) or leaving (calls end)",
    ),
    Metric(
        "meshkit_instance_attempts",
        "counter",
        (*_TARGET, "instance", *_STATUS),
        "Attempts that ended, by the instance that they went to, while it is there",
    ),
    Metric("meshkit_instance_in_flight", "gauge", (*_TARGET, "instance"), "Calls to an instance that are under way"),
    Metric(
        "meshkit_breaker_state",
        "gauge",
        ("breaker", "state"),
        "1 for the state that a breaker around whole calls is in: closed, open or half-open; else 0",
    ),
    Metric("meshkit_retry_budget_tokens", "gauge", _TARGET, "Retries that may be made at once"),
    Metric("meshkit_retry_budget_reserve", "gauge", _TARGET, "The most retries that can be saved up"),
    Metric("meshkit_instances_stale", "gauge", _TARGET, "1 while the instances may have changed unseen, else 0"),
    Metric(
        "meshkit_etcd_listings",
        "counter",
        _TARGET,
        "Times that all instances were listed: when a watch ended",
    ),
    Metric("meshkit_etcd_away_seconds", "gauge", (), "How long no member of etcd has answered; 0: one does"),
    Metric("meshkit_registered", "gauge", (), "1 while the server's key is in etcd, as far as it knows, else 0"),
    Metric("meshkit_lease_renewals", "counter", (), "Renewals of the lease of the server's key"),
    Metric("meshkit_limiter_waiting", "gauge", (), "Calls that wait for a token of the rate limit"),
    Metric("meshkit_limiter_delayed", "counter", (), "Calls that had to wait for a token"),
    Metric("meshkit_limiter_refused", "counter", (), "Calls that were refused: their token would come too late"),
    Metric("meshkit_spans_ended", "counter", (), "Spans that were to be sent, once for each place"),
    Metric("meshkit_spans_sent", "counter", (), "Spans that a collector has taken"),
    Metric("meshkit_spans_dropped", "counter", (), "Spans that were dropped: the queue was full, or they were refused"),
    Metric("meshkit_spans_queued", "gauge", (), "Spans that wait to be sent"),
    Metric("meshkit_collector_away_seconds", "gauge", (), "How long a collector of spans takes none; 0: it does"),
)

_HEAD = """\
# Metrics

What `/metrics` of the admin port tells. Made from the code: `python -m meshkit.metrics.table > docs/metrics.md`.

Names with a source are those that gRPC publishes in its [proposals](https://github.com/grpc/proposal), spelled for
Prometheus; the others are the mesh's own. Durations are in seconds. A histogram has the bounds of OpenTelemetry's
conventions (0.005 to 10), that of retries 1 to 5; exemplars name a trace that was recorded (`trace_id`).

- `grpc_target` is where instances come from, e.g. `etcd:///services/book/`.
- `grpc_method` is a method's full name. For calls of a bare `Retry` it is the name that was given to them: those of
  book-client are `conversation`, each of which calls two methods of one instance.
- `instance` is the `host:port`. Series that have it go when the instance goes; the `grpc_client_...` ones stay and
  still have its calls.
- gRPC for Python tells the last state of a connection only: one that is lost and back within a moment is not counted.

| Name | Type | Labels | What it says | Source |
|---|---|---|---|---|
"""


def as_markdown() -> str:
    """The page docs/metrics.md."""
    rows = [
        f"| `{metric.name}{'_total' * (metric.type == 'counter')}` | {metric.type} "
        f"| {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help}. | {metric.source} |\n"
        for metric in METRICS
    ]
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    print(as_markdown(), end="")
