"""Seeds and random states: torch's generators, of this device, for each rank."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from dino.running.distributed import World, gather_over_ranks


def derive_seed(seed: int, purpose: str, rank: int = 0) -> int:
    """A 63-bit seed for one purpose and rank; unrelated for any two, unlike seed + rank."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def random_states(device: torch.device) -> dict[str, Any]:
    """``{"torch": [state of rank 0, ...], "cuda": [...]}``, uint8 tensors; a collective call."""
    states = {"torch": gather_over_ranks(torch.get_rng_state())}
    if device.type == "cuda":
        states["cuda"] = gather_over_ranks(torch.cuda.get_rng_state(device))
    return states


def restore_random_states(states: dict[str, Any], world: World, device: torch.device) -> bool:
    """Put this rank's states back; False where the checkpoint has none for it (another number of ranks or device)."""
    if len(states["torch"]) != world.world_size or (device.type == "cuda") != ("cuda" in states):
        return False
    torch.set_rng_state(states["torch"][world.rank])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"][world.rank], device)
    return True
