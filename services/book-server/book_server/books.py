"""What the book service answers."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import grpc
from book_pb2 import BookInfo, BookInfoParams, BookList, BookListParams
from book_pb2_grpc import BookServiceServicer

__all__ = ["BOOKS", "SERVICE", "BookService"]

SERVICE = "BookService"
BOOK_NAME = "Go入门系列"
# Ids repeat, as in the sample.
BOOKS: tuple[tuple[int, str], ...] = ((1, "Go入门到精通"), (2, "微服务入门到精通"), (2, "区块链入门到精通"))

Context = grpc.aio.ServicerContext[Any, Any]


class BookService(BookServiceServicer):
    """Both methods, each with some artificial work: a uniformly random wait.

    Args:
        max_list_latency: of GetBookList, in seconds; 0: none.
        max_info_latency: of GetBookInfo, in seconds; 0: none.
        rng: source of the randomness. Default: one of its own, seeded by the system.
    """

    def __init__(self, max_list_latency: float, max_info_latency: float, rng: random.Random | None = None) -> None:
        self._max_list_latency = max_list_latency
        self._max_info_latency = max_info_latency
        self._rng = rng or random.Random()

    async def GetBookInfo(self, request: BookInfoParams, context: Context) -> BookInfo:  # noqa: N802
        """Answer with the only book, under the id that was asked for. INVALID_ARGUMENT for negative ids."""
        await _refuse_negative(context, book_id=request.book_id)
        await self._work(self._max_info_latency)
        return BookInfo(book_id=request.book_id, book_name=BOOK_NAME)

    async def GetBookList(self, request: BookListParams, context: Context) -> BookList:  # noqa: N802
        """Answer with page `page` (from 1; 0 means 1) of `limit` books each; limit 0: all. INVALID_ARGUMENT below 0."""
        await _refuse_negative(context, page=request.page, limit=request.limit)
        await self._work(self._max_list_latency)
        books = BOOKS
        if request.limit:
            start = (max(request.page, 1) - 1) * request.limit
            books = BOOKS[start : start + request.limit]
        return BookList(book_list=[BookInfo(book_id=book_id, book_name=name) for book_id, name in books])

    async def _work(self, max_latency: float) -> None:
        if max_latency:
            await asyncio.sleep(self._rng.uniform(0, max_latency))


async def _refuse_negative(context: Context, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"expected {name} of at least 0, got {number}")
