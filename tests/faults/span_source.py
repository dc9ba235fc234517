"""A program that makes spans at full speed: `python -m tests.faults.span_source URL COUNT`.

It prints one JSON object: the processor's counts, the most spans that waited, and what its memory grew by.
"""

import asyncio
import json
import sys
import time
from typing import Any

from localmesh.measure import resident_mb
from meshkit.tracing import ResendingSpanProcessor, tracer_provider, zipkin_exporter


async def main(url: str, count: int) -> dict[str, Any]:
    provider = tracer_provider("source")
    processor = ResendingSpanProcessor(zipkin_exporter("source", url))
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("source")
    before, most, slowest = resident_mb(), 0, 0.0
    for number in range(count):
        start = time.perf_counter()
        tracer.start_span("BookService/GetBookInfo", attributes={"number": number}).end()
        slowest = max(slowest, time.perf_counter() - start)
        if number % 100 == 0:
            most = max(most, processor.counts.queued)
            await asyncio.sleep(0)
    grown = resident_mb() - before
    await asyncio.to_thread(processor.force_flush, 15_000)
    await asyncio.to_thread(provider.shutdown)
    counts = processor.counts
    return {
        "ended": counts.ended,
        "sent": counts.sent,
        "dropped": counts.dropped,
        "most_queued": most,
        "grown_mb": grown,
        "slowest_ms": slowest * 1000,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
