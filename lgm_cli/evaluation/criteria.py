"""How well a model fits for the number of its parameters: the criteria of Akaike and Schwarz."""

from __future__ import annotations

import math
from typing import Any

from lgm_cli.evaluation.evaluator import Evaluator, Scores
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters

UNFINISHED = ("diverged", "interrupted", "failed")


def criteria(
    model: LatentVariableModel, evaluator: Evaluator, parameters: Parameters, scores: Scores, status: str
) -> dict[str, Any]:
    """`free_parameters`, `total_log_likelihood`, `aic` and `bic` of a run that ended with this status:

        AIC = 2 k - 2 l,  BIC = k log n - 2 l

    l is the sum of log p(observed entries of y_n) over all data points, in nats, of the data in their own units. k is
    the number of free parameters (`free_parameters` of the model) and n is `sample_size` of the model. Periodic means
    that data.season takes off are not counted, nor is anything that is fixed by the configuration.

    l is None where it is known for a part of the data points alone, or to a numerical error, or where the run has not
    finished. AIC and BIC are of maxima of l, so they are None with a prior, too.

    Akaike, IEEE Trans. Automatic Control 19 (1974) 716-723; Schwarz, Ann. Statist. 6 (1978) 461-464.
    """
    free, total = model.free_parameters(parameters), None
    exact = scores.points == evaluator.data.layout[0] and not evaluator.iterative
    if exact and status not in UNFINISHED and math.isfinite(scores.train_log_likelihood):
        total = scores.train_log_likelihood * model.observations.observed
    found = {"free_parameters": free, "total_log_likelihood": total, "aic": None, "bic": None}
    if total is not None and not model.prior_statistics():
        found |= {"aic": 2 * free - 2 * total, "bic": free * math.log(max(1, model.sample_size)) - 2 * total}
    return found
