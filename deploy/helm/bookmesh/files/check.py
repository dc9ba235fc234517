"""`helm test`: makes real calls, then looks up every one's trace in Zipkin. Runs in the client's image."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

DEADLINE = 60.0


def trace(zipkin: str, trace_id: str) -> list[dict[str, object]]:
    """A call's spans as Zipkin's API gives them; [] while it has none."""
    try:
        with urllib.request.urlopen(f"{zipkin}/api/v2/trace/{trace_id}", timeout=10) as answer:
            spans: list[dict[str, object]] = json.load(answer)
            return spans
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return []
        raise


def main() -> None:
    """Exit with a line that says what is wrong, or with what was seen."""
    command = ["/venv/bin/book-client", "--log-format", "json", "--calls", os.environ["CALLS"]]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    entries = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    calls = [entry for entry in entries if entry["event"] == "call"]
    if done.returncode != 0 or not calls:
        sys.exit(f"book-client ended with status {done.returncode} after {len(calls)} calls")
    collector = os.environ["BOOK_CLIENT_ZIPKIN"]
    if collector == "off":
        print(f"{len(calls)} calls succeeded; there is no Zipkin to ask for their traces")
        return
    zipkin = collector.partition("/api/")[0]
    give_up = time.monotonic() + DEADLINE
    for call in calls:
        expected = 5 + call["attempts"] - 1
        while len(spans := trace(zipkin, call["trace_id"])) < expected:
            if time.monotonic() > give_up:
                sys.exit(f"trace {call['trace_id']}: {len(spans)} of {expected} spans after {DEADLINE:g} s: {spans}")
            time.sleep(0.5)
        ids = {span["id"] for span in spans}
        roots = [span for span in spans if "parentId" not in span]
        orphans = [span for span in spans if "parentId" in span and span["parentId"] not in ids]
        if len(roots) != 1 or orphans:
            sys.exit(f"trace {call['trace_id']} is broken: {len(roots)} roots, orphans: {orphans}")
    print(f"{len(calls)} calls succeeded, and each has a whole trace")


if __name__ == "__main__":
    main()
