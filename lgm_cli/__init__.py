"""Latent variable models learned by EM, its variants and probabilistic unrolling."""

__version__ = "0.1.0"
