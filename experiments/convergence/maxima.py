"""Evidence that a likelihood has two maxima: the curvature of both, and where EM goes on to from each.

    python experiments/convergence/maxima.py

Learns `state_space, chicago` of run.py by em and by gradient_em, takes 1,000 steps of EM from where each has ended, and
computes the whole Hessian of the exact log-likelihood there, by central differences of its gradient.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from run import PROBLEMS, learned

from lgm_cli.command import resume
from lgm_cli.data.base.load import load as load_data
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.blocks import observe
from lgm_cli.results.tensors import load_tensors
from lgm_cli.run import build
from lgm_cli.run import device as devices
from lgm_cli.run.curvature import Landscape

WIDTH = 0.02  # of the differences, in free coordinates of about unit scale


def ended(method: str) -> tuple[LatentVariableModel, Parameters]:
    """The model of a run, and the parameters that it has written."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        learned(
            folder,
            [
                *PROBLEMS["state_space, chicago"].split(),
                *("data.test_fraction=0", "save_posterior=false", "device.threads=1"),
                *(f"method={method}", f"hydra.run.dir={folder}"),
            ],
        )
        config, _ = resume.recorded_in(folder)
        exported = load_tensors(folder / "parameters.safetensors")
    model, device = build.model(config), devices.device(config["device"])
    data = load_data(dict(config["data"]), config["seed"], model.simulate)
    model = model.bind(observe(data, config["seed"], devices.dtype(config["device"], model), device))
    return model, model.restore(exported)


def curvatures(landscape: Landscape) -> torch.Tensor:
    """Eigenvalues of the Hessian at the start, rising."""
    rows = [
        (landscape.gradient(landscape.start + step) - landscape.gradient(landscape.start - step)) / (2 * WIDTH)
        for step in WIDTH * torch.eye(len(landscape.start), dtype=torch.float64)
    ]
    hessian = torch.stack(rows)
    return torch.linalg.eigvalsh((hessian + hessian.T) / 2)


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in ("em", "gradient_em"):
        model, parameters = ended(name)
        before = Landscape(model, parameters)
        method = Method(model, Exact(model), ClosedForm(model, parameters), 10**9, 0)
        for _ in range(1000):
            method.step()
        after = Landscape(model, method.parameters)
        found = curvatures(after)
        flat = int((found.abs() < 1e-8).sum())
        print(
            f"{name}: {before.value(before.start):.6f}, after 1,000 steps of EM {after.value(after.start):.6f}; "
            f"{len(found)} curvatures from {found[0]:.1e} to {found[~(found.abs() < 1e-8)][-1]:.1e}, {flat} below 1e-8"
        )


if __name__ == "__main__":
    main()
