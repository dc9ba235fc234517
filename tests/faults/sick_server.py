"""book-server, but for a share of its GetBookInfo calls, which get UNAVAILABLE: the number in the file $SICK_SHARE.

A program of its own, like a sick replica: healthy according to the health service, registered, and useless.
"""

import os
import random
from pathlib import Path
from typing import Any

import book_server.__main__ as program
import grpc
from book_pb2 import BookInfo, BookInfoParams
from book_server.books import BookService

SHARE = Path(os.environ["SICK_SHARE"])


class SickBooks(BookService):
    async def GetBookInfo(self, request: BookInfoParams, context: Any) -> BookInfo:  # noqa: N802
        if random.random() < float(SHARE.read_text()):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "sick")
        return await super().GetBookInfo(request, context)


program.BookService = SickBooks  # type: ignore[attr-defined]
program.main()
