"""What a shell offers after resume=, apply= and report=: the folders of runs. Hydra's completion knows the rest."""

from __future__ import annotations

from pathlib import Path

from lgm_cli.command.outputs import LATEST, NAME

KEYS = ("resume", "apply", "report")
PLACES = ("runs", "sweeps")  # of outputs/, beside `latest`


def folders(line: str) -> list[str]:
    """The words that the last word of a line may become; none where it does not begin with one of the KEYS.

    A folder of a run is offered as it is, any other with a slash, so that what is in it comes next.
    """
    key, given, typed = line.rpartition(" ")[2].partition("=")
    if not given or key not in KEYS:
        return []
    if not typed:
        newest = [path for place in PLACES for path in sorted(Path(NAME, place).glob("*"), reverse=True)]
        return [f"{key}={path}" for path in (Path(NAME, LATEST), *newest) if path.is_dir()]
    head, _, start = typed.rpartition("/")
    place = Path(head or ("/" if typed.startswith("/") else ".")).expanduser()
    try:
        found = sorted(path for path in place.iterdir() if path.name.startswith(start) and path.is_dir())
    except OSError:
        return []
    prefix = typed[: len(typed) - len(start)]
    shown = [path for path in found if start.startswith(".") or not path.name.startswith(".")]
    return [f"{key}={prefix}{path.name}{'' if (path / '.hydra').is_dir() else '/'}" for path in shown]
