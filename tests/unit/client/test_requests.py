import asyncio

from meshkit.client.requests import Requests


async def test_the_requests_of_an_attempt_that_ends_while_one_is_sent_come_to_an_end() -> None:
    requests = Requests(None)
    giving = asyncio.create_task(requests.put(b"a"))
    await asyncio.sleep(0)
    messages = requests.messages()
    assert await anext(messages) == b"a"
    requests.stop()
    async with asyncio.timeout(30):
        assert [message async for message in messages] == []
    await giving
