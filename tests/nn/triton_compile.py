"""Compiles the Triton kernels for a GPU that need not be there; prints each one and the bytes of its code.

A process of its own runs this: Triton reads when it is first imported whether kernels are to be interpreted.
"""

import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tgscale.nn import gather_attention_triton as kernels

KERNELS = ["_forward", "_backward_score", "_backward_query", "_backward_node", "_backward_time"]
IDS = ["query_row", "slot", "event", "dt", "roots", "ptr", "visits"]


def arguments(width: str, kind: str) -> dict[str, str]:
    """Type of each argument that is no constant; queries and what is of their shape may be narrower."""
    types = dict.fromkeys(["query", "grad", "out", "grad_query"], f"*{width}")
    types |= dict.fromkeys(["z", "grad_z", "edge", "keep", "score", "weight", "grad_score"], f"*{kind}")
    types |= dict.fromkeys(IDS, "*i64") | dict.fromkeys(["omega", "bias", "partial"], "*fp64")
    return types | {"R": "i32", "size": "i32"}


def constants(kind: str) -> dict[str, object]:
    """The paper's model with the edge features of Wikipedia."""
    D, F, T = 100, 172, 100
    sizes = {"H": 2, "k": 10, "D": D, "F": F, "T": T, "W": D + F + T + 1, "HAS_KEEP": True, "slope": 0.2}
    sizes |= {"HH": 2, "K": 16, "BLOCK": 128, "BLOCKS": 5, "VISITS": 16, "OFFSET": D + F, "TT": 128}
    return sizes | {"TYPE": tl.float64 if kind == "fp64" else tl.float32}


def main(width: str, kind: str) -> None:
    for name in KERNELS:
        kernel = getattr(kernels, name)
        known = {n: value for n, value in constants(kind).items() if n in kernel.arg_names}
        signature = {n: "constexpr" if n in known else arguments(width, kind)[n] for n in kernel.arg_names}
        at = {(kernel.arg_names.index(n),): value for n, value in known.items()}
        made = triton.compile(ASTSource(kernel, signature, at), target=GPUTarget("cuda", 90, 32))
        print(name, len(made.asm["cubin"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
