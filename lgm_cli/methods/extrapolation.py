"""Where the steps of a fixed-point iteration lead: points ahead of theta <- F(theta), as vectors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from lgm_cli.methods.saved_state import require

LENGTHENING = 4.0  # factor of SQUAREM's longest step, up each time that it was taken and down each time it was refused
MOST_DIFFERENCES = 10  # that Anderson's method combines, at most, before it begins anew
DAMPING = 1.2  # base of how Anderson's damping falls with the points that were accepted
DAMPED = 25  # points accepted until it is half
RANK = 1e-10  # singular values of the differences below this share of the largest count as zero


class Scheme(ABC):
    """A way to extrapolate from points and their images under F.

    `ahead` is told of every point that was accepted; `refused` says that the point it gave last was not.
    """

    def __init__(self) -> None:
        self.points: list[Tensor] = []
        self.images: list[Tensor] = []

    @abstractmethod
    def ahead(self, point: Tensor, image: Tensor) -> Tensor | None:
        """The point to go to next, (p,); None: the image itself. point and its image: (p,), float64, on the CPU."""

    def reset(self) -> None:
        """Forget the points."""
        self.points, self.images = [], []

    def refused(self) -> None:
        """Be more careful from now on."""
        self.reset()

    def state(self) -> dict[str, Any]:
        return {"points": self.points, "images": self.images}

    def load_state(self, state: dict[str, Any], like: Tensor) -> None:
        """Go on from a state of `state`, of vectors such as `like`; ValueError when it is not one."""
        kinds = {name: list if isinstance(value, list) else type(value) for name, value in self.state().items()}
        require(state, kinds, "acceleration")
        for value in (*state["points"], *state["images"]):
            require(value, like, "acceleration")
        if len(state["points"]) != len(state["images"]):
            raise ValueError("acceleration")
        for name, value in state.items():
            setattr(self, name, list(value) if isinstance(value, list) else value)


class Squarem(Scheme):
    """From x_0, x_1 = F(x_0) and x_2 = F(x_1), with r = x_1 - x_0 and v = (x_2 - x_1) - r, to

        x_0 + 2 a r + a^2 v,    a = |r| / |v|    (step length S3; a = 1 gives x_2),

    whose image is the next x_0. Varadhan & Roland, Simple and globally convergent methods for accelerating the
    convergence of any EM algorithm, Scandinavian J. Statistics 35 (2008) 335-353. The bound of a grows as it is met.
    """

    def __init__(self) -> None:
        super().__init__()
        self.longest = 1.0  # bound of a
        self.settling = False  # whether the next point is one that was extrapolated, after which a plain step is taken

    def ahead(self, point: Tensor, image: Tensor) -> Tensor | None:
        settling, self.settling = self.settling, False
        if settling:
            return None
        if not self.points:
            self.points, self.images = [point], [image]
            return None
        first = self.points[0]
        self.reset()
        still = image == point  # at bounds: tells nothing of the others
        change = torch.where(still, 0.0, point - first)
        bend = torch.where(still, 0.0, (image - point) - change)
        wanted = float(change.norm() / bend.norm().clamp_min(1e-300))
        length = min(wanted, self.longest)
        if wanted >= self.longest:
            self.longest *= LENGTHENING
        if length <= 1:
            return None
        self.settling = True
        return first + 2 * length * change + length**2 * bend

    def reset(self) -> None:
        super().reset()
        self.settling = False

    def refused(self) -> None:
        super().refused()
        self.longest = max(1.0, self.longest / LENGTHENING)

    def state(self) -> dict[str, Any]:
        return super().state() | {"longest": self.longest, "settling": self.settling}


class Anderson(Scheme):
    """With f_k = F(x_k) - x_k and differences dX, dF of points and of f in turn, (p, m), to

        F(x) - (dX + dF) g,    g = argmin |f - dF g|^2 + l |g|^2.

    Walker & Ni, Anderson acceleration for fixed-point iterations, SIAM J. Numerical Analysis 49 (2011) 1715-1735. l is
    such that |g|^2 is 1 / (1 + 1.2^(25 - k)) of what it is for l = 0 after k accepted points, and differences are
    dropped each time that there are min(10, p/2): Henderson & Varadhan, Damped Anderson acceleration with restarts
    and monotonicity control for accelerating EM and EM-like algorithms, J. Computational and Graphical Statistics 28
    (2019) 834-846.
    """

    def __init__(self) -> None:
        super().__init__()
        self.accepted = 0.0  # k, less for every refusal

    def ahead(self, point: Tensor, image: Tensor) -> Tensor | None:
        self.accepted += 1
        self.points, self.images = [*self.points, point], [*self.images, image]
        if len(self.points) == 1:
            return None
        points, images = torch.stack(self.points, 1), torch.stack(self.images, 1)
        found = image - images.diff(dim=1) @ self._combination((images - points).diff(dim=1), image - point)
        if len(self.points) > min(MOST_DIFFERENCES, math.ceil(len(point) / 2)):
            self.points, self.images = [point], [image]
        return found

    def _combination(self, differences: Tensor, residual: Tensor) -> Tensor:
        """g, (m,)."""
        left, size, right = torch.linalg.svd(differences, full_matrices=False)
        kept = size > RANK * size[0]
        left, size, right = left[:, kept], size[kept], right[kept]
        along = left.mT @ residual
        share, whole = 1 / (1 + DAMPING ** (DAMPED - self.accepted)), float((along / size).square().sum())
        low, high = -60.0, 30.0  # log l beside the largest singular value's square: |g|^2 falls with it
        for _ in range(60 if whole > 0 else 0):
            middle = (low + high) / 2
            part = float((size * along / (size**2 + math.exp(middle) * size[0] ** 2)).square().sum())
            low, high = (middle, high) if part > share * whole else (low, middle)
        return right.mT @ (size * along / (size**2 + math.exp(high) * size[0] ** 2 if len(size) else 1.0))

    def refused(self) -> None:
        super().refused()
        self.accepted = max(self.accepted - MOST_DIFFERENCES, -float(DAMPED))

    def state(self) -> dict[str, Any]:
        return super().state() | {"accepted": self.accepted}


SCHEMES: dict[str, type[Scheme]] = {"squarem": Squarem, "anderson": Anderson}
