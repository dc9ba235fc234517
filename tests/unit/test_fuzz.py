"""Whatever comes in from outside: no crash, no hang."""

from collections.abc import Mapping

import click
import pytest
from book_client.__main__ import command as book_client
from book_server.__main__ import command as book_server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace

from meshkit.address import parse_address
from meshkit.tracing import zipkin_exporter
from meshkit.tracing.b3 import B3Propagator

# Without limits of time: on a busy machine those would fail for no fault of the code.
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
HEX = st.text("0123456789abcdefABCDEF", max_size=34)
B3_VALUES = st.one_of(st.text(max_size=60), HEX, st.lists(HEX, min_size=1, max_size=5).map("-".join))
B3_NAMES = ("b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags")


@FUZZ
@given(st.dictionaries(st.sampled_from(B3_NAMES), B3_VALUES))
def test_any_b3_headers_give_a_span_context_that_goes_out_as_valid_headers(headers: Mapping[str, str]) -> None:
    propagator = B3Propagator()
    context = propagator.extract(headers)
    out: dict[str, str] = {}
    propagator.inject(out, context)
    if trace.get_current_span(context).get_span_context().is_valid:
        again = trace.get_current_span(propagator.extract(out)).get_span_context()
        assert again.trace_id == trace.get_current_span(context).get_span_context().trace_id
        assert again.span_id == trace.get_current_span(context).get_span_context().span_id
    else:
        assert out == {}


# What a system can pass on to a program: no NUL.
WORDS = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
    st.from_regex(r"-?[0-9]{1,30}(\.[0-9]{1,5})?(ns|us|ms|s|m|h)?", fullmatch=True),
    st.sampled_from(["off", "nan", "inf", "1e999", "0", "127.0.0.1:1", "http://[", "/a/", "/", "[::]:1"]),
)


@pytest.mark.parametrize("command", [book_server, book_client], ids=["book-server", "book-client"])
def test_any_flags_are_taken_or_refused_in_one_line_with_exit_code_2(command: click.Command) -> None:
    names = st.sampled_from([option for parameter in command.params for option in parameter.opts])

    @FUZZ
    @given(st.lists(st.one_of(st.tuples(names, WORDS), st.tuples(WORDS)), max_size=4))
    def parse(flags: list[tuple[str, ...]]) -> None:
        refusals: list[click.UsageError] = []
        arguments = [word for flag in flags for word in flag]
        if {"-h", "--help"} & set(arguments):
            return
        try:
            command.make_context(command.name, arguments)
        except click.UsageError as error:
            refusals.append(error)
        assert all(error.exit_code == 2 and error.format_message() for error in refusals)

    parse()


@FUZZ
@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = parse_address(text)
    except ValueError:
        return
    assert host
    assert 0 <= port <= 65535


ALMOST_ADDRESSES = st.from_regex(r"(\[[0-9a-f:.]{2,12}\]|[0-9.]{1,12}|[a0._-]{1,80}):[0-9]{1,5}", fullmatch=True)


@FUZZ
@given(ALMOST_ADDRESSES)
def test_any_address_that_is_taken_can_be_looked_up_and_be_the_local_endpoint_of_spans(text: str) -> None:
    try:
        host, _ = parse_address(text)
    except ValueError:
        return
    # What socket.getaddrinfo() does first, with a UnicodeError where it cannot.
    assert host.encode("idna")
    zipkin_exporter("test", "http://127.0.0.1:9411/api/v2/spans", address=text)
