"""Copies between shared memory and a GPU."""

from __future__ import annotations

import numpy as np
import torch

from tgscale.errors import RunError
from tgscale.memory.local import MemoryRows
from tgscale.memory.wire import READ_BUFFERS, Piece


class Pins:
    """Copies between a channel and a GPU: the channel's pages are locked, so that copies need no other buffer.

    Args:
        channel: to lock.
        device: the GPU.
    """

    def __init__(self, channel: Piece, device: torch.device) -> None:
        self._device = device
        self._address = np.frombuffer(channel.map, np.uint8).ctypes.data
        self._copied: list[torch.cuda.Event | None] = [None] * READ_BUFFERS
        failed = torch.cuda.cudart().cudaHostRegister(self._address, channel.nbytes, 0)
        if int(failed):
            raise RunError(
                f"CUDA cannot lock {channel.nbytes:,} bytes of host memory for the shared memory backend (error "
                f"{int(failed)}): raise the limit (ulimit -l), or use the replicated backend."
            )

    def to_device(self, rows: MemoryRows, turn: int) -> MemoryRows:
        """Rows of a read buffer on the GPU."""
        moved = MemoryRows(*(column.to(self._device, non_blocking=True) for column in vars(rows).values()))
        event = self._copied[turn] = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        return moved

    def wait_copied(self, turn: int) -> None:
        """Until a read buffer's rows have been copied, and it may be filled anew."""
        event = self._copied[turn]
        if event:
            event.synchronize()

    def wait_all(self) -> None:
        """Until what was copied to the channel is there."""
        torch.cuda.current_stream(self._device).synchronize()

    def close(self) -> None:
        """Unlock; no copy may be under way."""
        torch.cuda.synchronize(self._device)
        torch.cuda.cudart().cudaHostUnregister(self._address)
