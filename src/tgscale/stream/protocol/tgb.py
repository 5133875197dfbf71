"""TGB's evaluation: rank among up to ``n`` distinct negatives, half of them destinations that the source knows.

With TGB's own files (``--eval.negatives-from``) the negatives are TGB's; without, they are drawn by the same rule, but
are others. Ranks, hits and MRR are those of py-tgb's ``Evaluator`` on the same scores.
"""

from tgscale.stream.protocol.base import EvalProtocol

PROTOCOL = EvalProtocol(
    "tgb",
    "rank among TGB's negatives: from its files, or 100 by its rule; MRR and hits@10",
    negatives=100,
    draw="historical",
    population="range",
    known_share=0.5,
    hits=10,
    from_files=True,
)
