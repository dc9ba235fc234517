"""One call: GetBookInfo, then GetBookList, on one and the same instance."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import structlog
from book_pb2 import BookInfo, BookInfoParams, BookListParams
from book_pb2_grpc import BookServiceStub

from meshkit import Endpoint
from meshkit.attempt import current_attempt
from meshkit.deadline import remaining

__all__ = ["Conversation", "conversation_over"]

log = structlog.stdlib.get_logger("book-client")

BOOK_ID, PAGE, LIMIT = 1, 1, 10


@dataclass(frozen=True, slots=True)
class Conversation:
    """What an instance has answered, and in which attempt."""

    instance: str
    attempt: int
    book: BookInfo
    books: tuple[BookInfo, ...]


def conversation_over(channel: grpc.aio.Channel, instance: str) -> Endpoint[int, Conversation]:
    """An endpoint that takes the call's number and holds a conversation; for a `channel_factory`."""
    stub = BookServiceStub(channel)

    async def converse(call: int) -> Conversation:
        attempt = current_attempt.get()
        number = attempt.number if attempt else 1
        log.info("picked", call=call, instance=instance, attempt=number)
        book = await stub.GetBookInfo(BookInfoParams(book_id=BOOK_ID), timeout=remaining())
        books = await stub.GetBookList(BookListParams(page=PAGE, limit=LIMIT), timeout=remaining())
        return Conversation(instance, number, book, tuple(books.book_list))

    return converse
