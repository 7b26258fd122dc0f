"""What a run gains by a CUDA device: the same runs on the processor and on the device, in turn.

    python experiments/bench/devices.py [--seconds 20] [--only TEXT]

Each run is a process of `lgm-run`, with the processor's threads as they are chosen by default, and stops after so many
seconds of learning. Printed are the seconds of learning by step, their ratio, and the log-likelihoods of the training
data, which are equal but for rounding (and random numbers, where a method draws any) where both made the same steps.
"""

from __future__ import annotations

import argparse

from experiments.whole_process import summary_of

DRAWN = "data=simulated data.hidden_share=0.3"
PROBLEMS = {
    "factor_analysis, movielens, em": "model=factor_analysis method=em",
    "factor_analysis, movielens, unroll": "model=factor_analysis method=unroll",
    "factor_analysis, N 2000, M 400, D 200, em": f"model=factor_analysis method=em {DRAWN} data.num_points=2000 "
    "data.num_dimensions=400 data.latent_dim=20 model.latent_dim=200 max_steps=20",
    "factor_analysis, N 2000, M 400, D 200, unroll": f"model=factor_analysis method=unroll {DRAWN} data.num_points=2000"
    " data.num_dimensions=400 data.latent_dim=20 model.latent_dim=200 max_steps=20",
    "factor_analysis, N 1200, M 2000, D 1000, em": f"model=factor_analysis method=em {DRAWN} data.num_points=1200 "
    "data.num_dimensions=2000 data.latent_dim=20 model.latent_dim=1000 max_steps=3",
    "factor_analysis, N 1200, M 2000, D 1000, unroll": f"model=factor_analysis method=unroll {DRAWN} "
    "data.num_points=1200 data.num_dimensions=2000 data.latent_dim=20 model.latent_dim=1000 max_steps=5",
    "ppca, gene_expression, em": "model=ppca method=em",
    "sparse_bayes, cosine, unroll": "model=sparse_bayes method=unroll max_steps=50",
    "gaussian_mixture, N 1e5, M 20, K 10, em": "model=gaussian_mixture method=em data=simulated data.num_points=100000 "
    "data.num_dimensions=20 data.hidden_share=0 model.num_components=10 max_steps=20",
    "hidden_markov, T 2e4, K 8, em": "model=hidden_markov method=em data=simulated data.num_points=20000 "
    "data.num_dimensions=4 data.hidden_share=0 model.num_components=8 max_steps=20",
    "state_space, chicago, em": "model=state_space method=em max_steps=20",
    "autoregressive, sunspots, em": "model=autoregressive method=em max_steps=50",
}


def learned(overrides: str, device: str, seconds: float) -> dict[str, float | str]:
    """Of one run: seconds by step, steps, log-likelihood and status; or the error alone."""
    try:
        summary = summary_of(*overrides.split(), f"device={device}", f"max_seconds={seconds}")
    except RuntimeError as error:
        return {"error": str(error)}
    row = summary["last_row"]
    return {
        "by_step": row["fit_seconds"] / max(row["step"], 1),
        "steps": row["step"],
        "log_likelihood": row["train_log_likelihood"],
        "status": summary["status"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    for name, overrides in PROBLEMS.items():
        if options.only not in name:
            continue
        found = {device: learned(overrides, device, options.seconds) for device in ("cpu", "cuda")}
        for device, run in found.items():
            words = (
                run["error"]
                if "error" in run
                else f"{1000 * float(run['by_step']):9.2f} ms a step, {run['steps']:5} steps, "
                f"{float(run['log_likelihood']):.6f}, {run['status']}"
            )
            print(f"{name:48} {device:5} {words}", flush=True)
        if not any("error" in run for run in found.values()):
            ratio = float(found["cpu"]["by_step"]) / float(found["cuda"]["by_step"])
            print(f"{name:48} a step on the device is {ratio:.2f} times as fast", flush=True)


if __name__ == "__main__":
    main()
