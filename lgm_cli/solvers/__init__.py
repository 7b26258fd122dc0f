"""Linear solvers for symmetric positive definite systems; one file each, found by the name in conf/solver."""
