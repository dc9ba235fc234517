"""Logging is global: a test that configures it leaves it as it was."""

import logging
from collections.abc import Iterator

import pytest
import structlog

__all__ = ["logging_as_before"]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
