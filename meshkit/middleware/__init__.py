"""What wraps an endpoint, on either side of a call."""

from __future__ import annotations

from meshkit.middleware.breaker import HystrixBreaker, StateListener
from meshkit.middleware.policy import HystrixPolicy
from meshkit.middleware.ratelimit import DelayingLimiter, ErroringLimiter, TokenBucket

__all__ = ["DelayingLimiter", "ErroringLimiter", "HystrixBreaker", "HystrixPolicy", "StateListener", "TokenBucket"]
