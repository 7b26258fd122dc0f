"""Pictures of a run, from plain arrays and metrics.csv: safe for the colour-blind, without pyplot.

Every function writes a PNG, SVG or PDF, by the suffix of `path`, and returns its Figure; matplotlib's global state
stays as it was.
"""

from lgm_cli.plots.autoregression import fitted_series, spectrum
from lgm_cli.plots.bound import bound
from lgm_cli.plots.factors import factor_extremes, latent_scatter, loadings_table
from lgm_cli.plots.free_energy import free_energy
from lgm_cli.plots.gaps import Column, filled
from lgm_cli.plots.hidden import Group, predictions
from lgm_cli.plots.mixtures import component_curves, component_densities, component_means, component_regions
from lgm_cli.plots.profiles import component_categories, component_profiles, count_components, responsibilities
from lgm_cli.plots.run import convergence
from lgm_cli.plots.series import channels, first_drawn, states
from lgm_cli.plots.signals import image, signal
from lgm_cli.plots.state_bands import MOST_CHANNELS, state_bands, window_begin
from lgm_cli.plots.style import COLOURS, QUIET, STYLE
from lgm_cli.plots.weights import weights

__all__ = [
    "COLOURS",
    "MOST_CHANNELS",
    "QUIET",
    "STYLE",
    "Column",
    "Group",
    "bound",
    "channels",
    "component_categories",
    "component_curves",
    "component_densities",
    "component_means",
    "component_profiles",
    "component_regions",
    "convergence",
    "count_components",
    "factor_extremes",
    "filled",
    "first_drawn",
    "fitted_series",
    "free_energy",
    "image",
    "latent_scatter",
    "loadings_table",
    "predictions",
    "responsibilities",
    "signal",
    "spectrum",
    "state_bands",
    "states",
    "weights",
    "window_begin",
]  # fmt: skip
