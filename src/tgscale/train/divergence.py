"""What ends a run whose model diverged, in words."""

from __future__ import annotations

from pathlib import Path

from tgscale.errors import DivergedError


def diverged(what: str, epoch: float, best_epoch: float, best: Path, lr: float) -> DivergedError:
    """The error that ends a run, so that the weights of its epoch are not taken for the best.

    Args:
        what: was seen, such as ``"the loss is nan"``.
        epoch: after which it was seen.
        best_epoch: whose weights are kept; 0 where there are none.
        best: the folder that keeps them.
        lr: learning rate of the run.
    """
    kept = f"The best weights of before, of epoch {best_epoch:g}, are kept in {best}."
    return DivergedError(
        f"the model diverged at epoch {epoch:g}: {what}. "
        f"{kept if best_epoch else 'No weights were kept, as this was the first validation.'} Lower the learning rate "
        f"(--train.lr is {lr}) and give another --run, or look for extreme values among the features."
    )
