"""Random numbers keyed to what they are for, never to the order in which they are drawn."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, purpose: str, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose stream depends on (seed, purpose, key) alone.

    Two purposes never share a stream, and taking blocks of data points in another order, resuming or using several
    processes changes no number. The key names, for instance, a block and the refresh it is for.
    """
    digest = hashlib.sha256(repr((seed, purpose, *key)).encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
