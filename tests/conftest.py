"""What holds for every test."""

from hypothesis import settings

# How long an example takes depends on what else the machine does: no reason to fail.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
