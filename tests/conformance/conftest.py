"""Which of these tests `make test` leaves to `make test-all`."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those of compositions whose parts are all tested here by themselves: by default, a Gaussian mixture and a hidden
    Markov model of normals. Their own tests compare them with these."""
    for item in items:
        if "conformance" in item.path.parts and "composed" in item.name:
            item.add_marker(pytest.mark.slow)
