"""Which expected sufficient statistics a closed-form step is given: those of this step, running ones, stored ones."""
