import asyncio
from typing import Any

from meshkit import chain
from tests.support.fakes import answering


def test_a_chain_is_passed_in_the_order_in_which_it_is_written() -> None:
    passed: list[str] = []

    def noting(name: str) -> Any:
        def middleware(endpoint: Any) -> Any:
            async def wrapped(request: Any) -> Any:
                passed.append(name)
                return await endpoint(request)

            return wrapped

        return middleware

    assert asyncio.run(chain(noting("a"), noting("b"), noting("c"))(answering("book"))(None)) == "book"  # type: ignore[arg-type]
    assert passed == ["a", "b", "c"]
