"""What wraps an endpoint, on either side of a call."""

from __future__ import annotations

from meshkit.middleware.breaker import HystrixBreaker, is_system_failure
from meshkit.middleware.ratelimit import DelayingLimiter, ErroringLimiter, TokenBucket

__all__ = ["DelayingLimiter", "ErroringLimiter", "HystrixBreaker", "TokenBucket", "is_system_failure"]
