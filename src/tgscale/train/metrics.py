"""Ranking and classification metrics of link prediction. Ties count half, everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tgscale.errors import DivergedError


def tie_aware_ranks(positive: Tensor, negatives: Tensor) -> Tensor:
    """Rank of each true candidate among its negatives: the mean of the optimistic and the pessimistic rank.

    ``1 + #(negative > positive) + 0.5 * #(negative == positive)``. A scorer that gives every candidate the same score
    gets ``1 + n / 2``, the middle, and not the first place.

    Args:
        positive: scores of the true candidates, ``[B]``.
        negatives: scores of each one's negatives, ``[B, n]``.

    Returns:
        ``[B]``, float64, from 1 (best) to ``n + 1``.

    Raises:
        DivergedError: a score is NaN.
    """
    refuse_nan(positive, negatives)
    better = (negatives > positive[:, None]).sum(1)
    equal = (negatives == positive[:, None]).sum(1)
    return 1.0 + better.double() + 0.5 * equal.double()


def optimistic_ranks(positive: Tensor, negatives: Tensor) -> Tensor:
    """``1 + #(negative > positive)``, as TGL and DistTGL rank: a tie is won, so a constant scorer is always first.

    Arguments, returns and raises as of :func:`tie_aware_ranks`.
    """
    refuse_nan(positive, negatives)
    return 1.0 + (negatives > positive[:, None]).sum(1).double()


def reciprocal_ranks(positive: Tensor, negatives: Tensor) -> Tensor:
    """``1 / rank`` of each true candidate, ``[B]``, float64; their mean is the MRR. See :func:`tie_aware_ranks`."""
    return tie_aware_ranks(positive, negatives).reciprocal()


def ap_auc(positive: Tensor, negative: Tensor) -> tuple[float, float]:
    """Average precision and area under the ROC curve of telling true events from negatives.

    Args:
        positive: scores of true events, ``[B]``; any real numbers, higher is likelier.
        negative: scores of negatives, ``[B]``.

    Returns:
        ``(ap, auc)``, both in [0, 1]. An AUC counts a tie as half; AP takes all of one score at once.

    Raises:
        DivergedError: a score is NaN.
    """
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision  # slow to import

    refuse_nan(positive, negative)
    scores = torch.cat([positive, negative])
    # torchmetrics squashes scores outside [0, 1] by a sigmoid, which makes ties of large ones. Both metrics depend on
    # the order alone, so it is given the order, with ties kept, scaled into [0, 1].
    order = torch.unique(scores, return_inverse=True)[1].double()
    order /= order.max().clamp(min=1)
    target = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
    target[: len(positive)] = 1
    return float(binary_average_precision(order, target)), float(binary_auroc(order, target))


def batch_ap_auc(positive: Tensor, negative: Tensor, bounds: Sequence[int], logits: bool = True) -> tuple[float, float]:
    """Mean AP and mean AUC of batches, each weighing the same, of scores after a sigmoid in fp32 (TGL, PyG, DyGLib).

    Large scores that differ may be equal after the sigmoid, and a short batch at the end weighs as much as a full one:
    both are part of the rule.

    Args:
        positive, negative: scores, ``[B]``; rows that a batch shares are consecutive.
        bounds: where batches end, ascending, the last being ``B``.
        logits: whether the scores are logits of a model; those of a rule (an event's id, say) are taken as they are.

    Returns:
        ``(ap, auc)``.

    Raises:
        DivergedError: a score is NaN.
    """
    likely = [scores.float().sigmoid() if logits else scores for scores in (positive, negative)]
    starts = [0, *bounds[:-1]]
    each = [ap_auc(likely[0][a:b], likely[1][a:b]) for a, b in zip(starts, bounds, strict=True)]
    ap, auc = torch.tensor(each, dtype=torch.float64).mean(0).tolist()
    return ap, auc


def refuse_nan(*scores: Tensor) -> None:
    """Refuse scores of a model that diverged, which nothing can be compared with.

    Raises:
        DivergedError: a score is NaN.
    """
    for values in scores:
        if torch.isnan(values).any():
            raise DivergedError(
                "a score is NaN: the model diverged. Lower the learning rate (--train.lr), or look for extreme values "
                "among the features."
            )
