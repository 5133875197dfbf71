"""``python -m tgscale``, the form that torchrun needs."""

from tgscale.cli import main

main()
