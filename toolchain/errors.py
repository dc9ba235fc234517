"""What can go wrong while a tool is fetched.

ToolchainError
├── SourceUnavailableError   this source cannot deliver; the next one is tried
└── ChecksumError            what came is not what was pinned; nothing else is tried
"""


class ToolchainError(Exception):
    """A tool cannot be set up; the message is one line that says what to do."""


class SourceUnavailableError(ToolchainError):
    """One source cannot deliver here (no network, no compiler, too old, …)."""


class ChecksumError(ToolchainError):
    """A download differs from its pinned checksum. It has been removed."""
