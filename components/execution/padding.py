"""Numbers that depend on a site's rows, made coarse before anybody else sees them."""

from __future__ import annotations


def padded(number: int) -> int:
    """The least power of two that is not smaller; 1 for 0."""
    return 1 << (max(1, number) - 1).bit_length()
