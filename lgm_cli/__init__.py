"""Latent Gaussian models learned by EM, gradient EM and probabilistic unrolling."""

__version__ = "0.1.0"
