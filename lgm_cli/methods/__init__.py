"""Methods: an expectation (exact or Monte Carlo posterior) combined with an update (closed form or gradient)."""
