"""One call: GetBookInfo, then GetBookList, on one and the same instance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from book_pb2 import BookInfo, BookInfoParams, BookListParams
from book_pb2_grpc import BookServiceStub
from opentelemetry.trace import Tracer

from meshkit import Endpoint, Factory, current_attempt, instance_channel, remaining

__all__ = ["Conversation", "instance_factory"]

log = structlog.stdlib.get_logger("book-client")

BOOK_ID, PAGE, LIMIT = 1, 1, 10


@dataclass(frozen=True, slots=True)
class Conversation:
    """What an instance has answered, and in which attempt."""

    instance: str
    attempt: int
    book: BookInfo
    books: tuple[BookInfo, ...]


def instance_factory(tracer: Tracer) -> Factory[int, Conversation]:
    """Endpoints that take the call's number and hold a conversation; for an Endpointer."""

    @asynccontextmanager
    async def connect(instance: str) -> AsyncIterator[Endpoint[int, Conversation]]:
        async with instance_channel(instance, tracer) as channel:
            stub = BookServiceStub(channel)

            async def converse(call: int) -> Conversation:
                attempt = current_attempt.get()
                number = attempt.number if attempt else 1
                log.info("picked", call=call, instance=instance, attempt=number)
                book = await stub.GetBookInfo(BookInfoParams(book_id=BOOK_ID), timeout=remaining())
                books = await stub.GetBookList(BookListParams(page=PAGE, limit=LIMIT), timeout=remaining())
                return Conversation(instance, number, book, tuple(books.book_list))

            yield converse

    return connect
