"""The toolkit's own stubs of etcd's API are what etcd3's are, as far as they go."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etcd3.etcdrpc import rpc_pb2 as theirs

# In a process of its own: both define the same names, and one process takes one definition.
SHOW = """
import json, sys
from meshkit.etcd import stubs
rpc = stubs.rpc.DESCRIPTOR
fields = {
    f"{message.name}.{field.name}": [field.number, field.type, field.label]
    for message in rpc.message_types_by_name.values() for field in message.fields
}
values = {
    f"{message.name}.{value.name}": value.number
    for message in rpc.message_types_by_name.values() for enum in message.enum_types for value in enum.values
}
calls = {f"{service.full_name}/{call.name}": [call.input_type.name, call.output_type.name]
         for service in rpc.services_by_name.values() for call in service.methods}
print(json.dumps([stubs.rpc.__name__, fields, values, calls]))
"""
# As where etcd3 is not installed.
WITHOUT_ETCD3 = "import sys; sys.modules['etcd3'] = None\n"


def shown(program: str) -> Any:
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    return json.loads(answer.stdout)


def messages() -> Iterator[Any]:
    yield from theirs.DESCRIPTOR.message_types_by_name.values()
    # etcd keeps the two in a file of their own.
    yield from theirs.RangeResponse.DESCRIPTOR.fields_by_name["kvs"].message_type.file.message_types_by_name.values()


def test_fields_calls_and_their_numbers_are_those_of_etcd() -> None:
    module, fields, values, calls = shown(WITHOUT_ETCD3 + SHOW)
    assert module == "meshkit.etcd.rpc_pb2"
    upstream = {f"{m.name}.{f.name}": [f.number, f.type, f.label] for m in messages() for f in m.fields}
    assert {name: upstream.get(name) for name in fields} == fields
    numbers = {f"{m.name}.{v.name}": v.number for m in messages() for e in m.enum_types for v in e.values}
    # The old release has none for a lease.
    assert {name: numbers.get(name) for name in values if name != "Compare.LEASE"} == {
        name: number for name, number in values.items() if name != "Compare.LEASE"
    }
    methods = {
        f"{service.full_name}/{call.name}": [call.input_type.name, call.output_type.name]
        for service in theirs.DESCRIPTOR.services_by_name.values()
        for call in service.methods
    }
    assert {name: methods.get(name) for name in calls} == calls
    assert len(calls) == 8


def test_etcd3s_are_used_where_they_can_be_loaded() -> None:
    assert shown(SHOW.replace("[stubs.rpc.__name__, fields, values, calls]", "stubs.rpc.__name__")) == (
        "etcd3.etcdrpc.rpc_pb2"
    )
