"""Bytes as a stock go-kit client or server would send them."""

import pytest
from book_pb2 import DESCRIPTOR, BookInfo, BookInfoParams, BookList, BookListParams
from book_pb2_grpc import BookServiceStub
from faults_pb2 import DESCRIPTOR as FAULTS
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from tests.support.golden import check_golden

VECTORS: list[tuple[Message, str]] = [
    (BookInfoParams(book_id=1), "0801"),
    (BookInfoParams(book_id=300), "08ac02"),
    (BookInfoParams(book_id=-1), "08ffffffffffffffffff01"),
    (BookInfoParams(), ""),
    (BookInfo(book_id=1, book_name="Go入门系列"), "0801120e476fe585a5e997a8e7b3bbe58897"),
    (BookListParams(page=1, limit=10), "0801100a"),
    (BookListParams(), ""),
    (
        BookList(book_list=[BookInfo(book_id=1, book_name="a"), BookInfo(book_id=2, book_name="b")]),
        "0a050801120161" + "0a050802120162",
    ),
    (BookList(), ""),
]


@pytest.mark.parametrize(("message", "wire"), VECTORS)
def test_messages_are_these_bytes(message: Message, wire: str) -> None:
    assert message.SerializeToString(deterministic=True).hex() == wire
    assert type(message).FromString(bytes.fromhex(wire)) == message


def test_full_method_names_have_no_package() -> None:
    methods: list[str] = []

    class Channel:
        def unary_unary(self, method: str, *_: object, **__: object) -> None:
            methods.append(method)

    BookServiceStub(Channel())
    assert methods == ["/BookService/GetBookInfo", "/BookService/GetBookList"]


def test_methods_and_fields_are_those_of_the_contract() -> None:
    check_golden("proto", MessageToDict(FileDescriptorProto.FromString(DESCRIPTOR.serialized_pb)))


def test_methods_and_fields_of_the_faults_are_those_of_the_contract() -> None:
    check_golden("proto_faults", MessageToDict(FileDescriptorProto.FromString(FAULTS.serialized_pb)))
