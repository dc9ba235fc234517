"""What keeps a cluster or an image from being made.

KindError
├── FaultError    Docker or the machine is not fit for it; the message names what to do
└── StepError     a command failed; the message names the log that has all of its output
"""


class KindError(Exception):
    """The cluster or an image cannot be made; the message is one line that says what to do."""


class FaultError(KindError):
    """Docker or the machine lacks something."""


class StepError(KindError):
    """A step's command failed."""
