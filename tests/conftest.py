"""Fixtures that several test modules use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lgm_cli.command import choices

Compose = Callable[..., dict[str, Any]]


@pytest.fixture
def compose() -> Compose:
    """Compose conf/ with overrides, as the command line does, into a plain dict, not checked yet."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    def composed(*overrides: str) -> dict[str, Any]:
        with initialize_config_dir(str(choices.conf_folder()), version_base="1.3"):
            plain = OmegaConf.to_container(hydra_compose("config", list(overrides)), resolve=True)
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}

    return composed


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Take back the handlers that a command configures: their folders are gone with the test."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    root.handlers[:] = before


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs in this process draw no pictures, which take longest, and leave its number of threads as it was."""
    import torch

    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
