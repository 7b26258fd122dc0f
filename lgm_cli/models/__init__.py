"""Latent Gaussian models; one file each, found by the name in conf/model."""
