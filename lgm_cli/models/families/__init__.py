"""Emissions: distributions of an observed row given a component or state, shared by mixtures and Markov chains."""
