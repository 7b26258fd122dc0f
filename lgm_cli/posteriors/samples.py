"""Posteriors known by their mean and by samples."""

from __future__ import annotations

from torch import Tensor

from lgm_cli.posteriors.base import Frame, PosteriorPrecision


class SamplePosterior:
    """z_n | y_n with the covariance of K samples about the mean: Sigma_n = (1/K) sum_k s_nk s_nk^T.

    mean: (n, D). samples: (n, K, D). Both may carry gradients (network gradient) or not (output gradient).
    precision: A_n by its products, of which `forward` is asked. targets: (n, m).
    """

    def __init__(
        self,
        mean: Tensor,
        samples: Tensor,
        frame: Frame | None = None,
        precision: PosteriorPrecision | None = None,
        targets: Tensor | None = None,
    ) -> None:
        self.mean, self.samples = mean, samples
        self.frame, self.precision, self.targets = frame or Frame(), precision, targets

    def entropy(self) -> None:
        """Samples have no entropy, so there is no free energy either."""
        return

    def observed_variance(self, rows: Tensor) -> Tensor:
        """diag(V Sigma V^T), (n, m), for rows V (M, D), (m, D) or (n, m, D)."""
        return (self.samples @ rows.mT).square().mean(-2)

    variance = observed_variance

    @property
    def covariance(self) -> Tensor:
        """(n, D, D)."""
        return self.samples.mT @ self.samples / self.samples.shape[1]
