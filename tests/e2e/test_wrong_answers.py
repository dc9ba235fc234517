"""A replica that is Ready, registered, and answers wrongly."""

import pytest

from tests.e2e.harness.expectations import all_succeeded
from tests.e2e.harness.mesh import Mesh

# What the Python in the replica's container runs before the program.
SICK = """
import sys

def sicken() -> None:
    import grpc
    from book_server.books import BookService

    async def answer(self, request, context):
        {answer}

    BookService.GetBookInfo = answer

class Importer:
    def find_spec(self, name, path=None, target=None):
        if name == "book_server.__main__":
            sys.meta_path.remove(self)
            sicken()

if "book-server" in " ".join(sys.orig_argv):
    sys.meta_path.insert(0, Importer())
"""
ANSWERS = {
    "unknown": "raise RuntimeError('a bug of its own')",
    "unauthenticated": "await context.abort(grpc.StatusCode.UNAUTHENTICATED, 'a configuration of its own')",
}
# What ejects it, and the probes while it is out, three at a time.
FIRST, PROBES = 3, 3


@pytest.mark.parametrize("answer", ANSWERS)
def test_one_replica_of_three_that_answers_wrongly_costs_no_call(mesh: Mesh, answer: str) -> None:
    mesh.install(replicas=2)
    mesh.wait_calls(100)
    sick = mesh.start_sick_server(SICK.format(answer=ANSWERS[answer]))
    came = mesh.mark("a sick replica comes", "fault")
    mesh.wait_registered(lambda present: len(present) == 3, "its key", within=mesh.bound(30))
    mesh.wait_calls(300)
    calls = mesh.stop_traffic()
    verdict = mesh.verdict(calls)
    answered = [attempt for attempt in verdict.failed_attempts if attempt.call.start > came]
    took = max(call.end for call in calls) - came
    mesh.record.figure("wrong answers", f"{len(answered)} in {took:.0f} s", f"{FIRST}, and {PROBES} a second at most")
    all_succeeded(mesh, calls)
    assert answered, "nobody called the sick replica: it proves nothing"
    assert {attempt.instance for attempt in answered} == {f"{sick.ip}:50051"}
    assert not verdict.broken, str(verdict)
    # Were it not ejected, a third of all calls would go there.
    assert len(answered) <= FIRST + PROBES * took
