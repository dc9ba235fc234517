from tests.e2e.harness.notes import commands_in


def test_only_the_indented_commands_of_the_notes_are_run() -> None:
    notes = """\
bookmesh is installed.

Wait, then use kubectl:
  kubectl -n books wait --for=condition=Ready pod -l "a=b,c!=d"
  and some words
Prove it:
  helm test -n books mesh
"""
    assert commands_in(notes) == [
        ["kubectl", "-n", "books", "wait", "--for=condition=Ready", "pod", "-l", "a=b,c!=d"],
        ["helm", "test", "-n", "books", "mesh"],
    ]
