"""Tests: what each file compares with is in reference.py, cases.py and matrices.py, shared among them."""
