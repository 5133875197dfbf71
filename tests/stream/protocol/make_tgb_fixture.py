"""Make tgb_fixture.json and tiny_val_ns.pkl with py-tgb itself: python tests/stream/protocol/make_tgb_fixture.py

Needs py-tgb, in an environment of its own if need be. The tests read what it wrote, so they need no py-tgb.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def tiny_stream():
    """Events of 6 sources and 12 destinations, with ties; ids, times and split as of an edge list of TGB."""
    rng = np.random.default_rng(5)
    src, dst = rng.integers(0, 6, 120), 6 + rng.integers(0, 12, 120) ** 2 // 12
    return src, dst, 1000 + np.sort(rng.integers(0, 60, 120)) * 7


def evaluator_cases():
    from tgb.linkproppred.evaluate import Evaluator

    rng, cases = np.random.default_rng(1), []
    for rows, negatives, levels in ((1, 1, 3), (9, 20, 4), (12, 49, 1000), (3, 999, 50), (5, 30, 1)):
        positive, negative = rng.integers(0, levels, rows), rng.integers(0, levels, (rows, negatives))  # with ties
        case = {"positive": positive.tolist(), "negative": negative.tolist()}
        for k in (1, 10):
            found = Evaluator("tgbl-wiki", k_value=k).eval(
                {"y_pred_pos": positive, "y_pred_neg": negative, "eval_metric": ["mrr"]}
            )
            case |= {name: float(value) for name, value in found.items()}
        cases.append(case)
    return cases


def main():
    import torch
    from tgb.linkproppred.negative_generator import NegativeEdgeGenerator
    from torch_geometric.data import TemporalData

    src, dst, time = tiny_stream()
    border, end = np.quantile(time, [0.7, 0.85])
    train, val = time <= border, (time > border) & (time <= end)

    def part(mask):
        return TemporalData(**{k: torch.from_numpy(v[mask]) for k, v in {"src": src, "dst": dst, "t": time}.items()})

    for file in HERE.glob("tiny_*_ns.pkl"):
        file.unlink()
    maker = NegativeEdgeGenerator("tiny", 6, 17, num_neg_e=8, strategy="hist_rnd", historical_data=part(train))
    maker.generate_negative_samples(part(val), "val", str(HERE))
    written = {"py-tgb": version("py-tgb"), "numpy": np.__version__, "cases": evaluator_cases()}
    (HERE / "tgb_fixture.json").write_text(json.dumps(written))


if __name__ == "__main__":
    main()
