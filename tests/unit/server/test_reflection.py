"""What reflection tells of symbols."""

import book_pb2
import pytest

from meshkit.server.reflection import SymbolPool


@pytest.mark.parametrize("symbol", ["BookService", "BookService.GetBookInfo", "BookInfo"])
def test_a_service_its_methods_and_its_messages_are_found_by_their_full_names(symbol: str) -> None:
    assert SymbolPool().FindFileContainingSymbol(symbol).name == book_pb2.DESCRIPTOR.name


@pytest.mark.parametrize("symbol", ["", "Nobody", "BookService.Nothing", "Nobody.Nothing"])
def test_what_is_not_there_is_not_found(symbol: str) -> None:
    with pytest.raises(KeyError):
        SymbolPool().FindFileContainingSymbol(symbol)


def test_all_else_is_asked_of_the_pool() -> None:
    assert SymbolPool().FindFileByName("book.proto").name == "book.proto"
