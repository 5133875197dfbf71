"""What papers and a leaderboard report, to stand beside a run on the same data by the same protocol."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One published figure.

    Attributes:
        data: name of the data set, as the import names it; lower case.
        protocols: names, in results, of those that are the same or nearest to its own.
        metric: which metric.
        system: whose.
        value: the figure.
        source: where it stands.
    """

    data: str
    protocols: tuple[str, ...]
    metric: str
    system: str
    value: float
    source: str


_DISTTGL = "Zhou et al., SC'23, figure 9"
_TASER = "Deng et al., IPDPS'24, table 1"
_TGL = "Zhou et al., VLDB'22, table 5"
_TGB = "TGB leaderboard, January 2026"

_MRR49, _AP = ("mrr49-optimistic", "mrr49"), ("ap-tgl", "ap")
_LAYOUTS = {
    "1x1x1": (0.8354, 0.8476, 0.8086, 0.5757),
    "1x8x1": (0.8122, 0.8401, 0.7685, 0.5514),
    "1x1x8": (0.8300, 0.8447, 0.7985, 0.5739),
}
_TASER_MRR = {
    "wikipedia": {"TGAT": 0.6876, "GraphMixer": 0.7405, "TASER TGAT": 0.7598, "TASER GraphMixer": 0.7648},
    "reddit": {"TGAT": 0.8105, "GraphMixer": 0.7511, "TASER TGAT": 0.8259, "TASER GraphMixer": 0.7685},
}
_TGL_AP = {
    "JODIE": (0.9890, 0.9945, 0.9895, 0.7878),
    "DySAT": (0.9637, 0.9857, 0.9876, 0.7639),
    "TGAT": (0.9726, 0.9948, 0.9850, 0.5482),
    "TGN": (0.9962, 0.9978, 0.9959, 0.7376),
    "APAN": (0.9814, 0.9924, 0.9858, 0.6273),
}
_TGB_MRR = {
    "tgbl-wiki": {"TPNet": 0.827, "recency/popularity heuristic": 0.821, "DyGFormer": 0.798, "TNCN": 0.718,
                  "CAWN": 0.711, "EdgeBank": 0.495, "TGN": 0.396, "TGAT": 0.141, "GraphMixer": 0.118, "DyRep": 0.050},
    "tgbl-review": {"GraphMixer": 0.521, "TNCN": 0.377, "TGAT": 0.355, "TGN": 0.349, "DyGFormer": 0.224,
                    "DyRep": 0.220, "CAWN": 0.193, "EdgeBank": 0.023},
    "tgbl-coin": {"TPNet": 0.832, "recency/popularity heuristic": 0.774, "TNCN": 0.762, "DyGFormer": 0.752,
                  "TGN": 0.586, "DyRep": 0.452, "EdgeBank": 0.359},
    "tgbl-comment": {"TPNet": 0.825, "recency/popularity heuristic": 0.723, "TNCN": 0.697, "DyGFormer": 0.670,
                     "TGN": 0.379, "DyRep": 0.289, "EdgeBank": 0.129},
    "tgbl-flight": {"TPNet": 0.884, "recency/popularity heuristic": 0.878, "TNCN": 0.820, "TGN": 0.705,
                    "DyRep": 0.556, "EdgeBank": 0.167},
}  # fmt: skip

PUBLISHED: tuple[Published, ...] = (
    *(
        Published(data, _MRR49, "mrr", f"DistTGL {layout}", value, _DISTTGL)
        for layout, values in _LAYOUTS.items()
        for data, value in zip(("wikipedia", "reddit", "flights", "mooc"), values, strict=True)
    ),
    *(
        Published(data, _MRR49, "mrr", system, value, _TASER)
        for data, of_data in _TASER_MRR.items()
        for system, value in of_data.items()
    ),
    *(
        Published(data, _AP, "ap", f"{system} (TGL)", value, _TGL)
        for system, values in _TGL_AP.items()
        for data, value in zip(("wikipedia", "reddit", "mooc", "lastfm"), values, strict=True)
    ),
    *(
        Published(data, ("tgb",), "mrr", system, value, _TGB)
        for data, of_data in _TGB_MRR.items()
        for system, value in of_data.items()
    ),
)

_VERSIONS = ("-v2", "-v1")


def published(data: str, protocol: str, metric: str) -> list[Published]:
    """What is published for a data set, protocol and metric, in the order in which it stands here.

    Args:
        data: name of a data set; case and a version at its end do not count.
        protocol, metric: as in a result.
    """
    name = data.lower()
    for version in _VERSIONS:
        name = name.removesuffix(version)
    return [each for each in PUBLISHED if (each.data, each.metric) == (name, metric) and protocol in each.protocols]
