"""tgscale: train dynamic graph neural networks from one CPU to many machines."""

__version__ = "0.1.0"
