"""What can go wrong while a tool is fetched.

ToolchainError
├── CacheError               the cache's folder cannot be used
├── SourceUnavailableError   this source cannot deliver; the next one is tried
└── ChecksumError            what came is not what was pinned; nothing else is tried
"""


class ToolchainError(Exception):
    """A tool cannot be set up; the message is one line that says what to do."""


class CacheError(ToolchainError):
    """The cache's folder is another's, or others may write to it, or it cannot be made."""


class SourceUnavailableError(ToolchainError):
    """One source cannot deliver here (no network, no compiler, too old, …)."""


class ChecksumError(ToolchainError):
    """A download differs from its pinned checksum. It has been removed."""
