"""`make soak`: calls for minutes under random faults from a seed, and a ledger that accounts for every one of them."""

from localmesh.soak.run import run_soak

__all__ = ["run_soak"]
