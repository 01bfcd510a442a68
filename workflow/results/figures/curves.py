"""Training curves of a study from its runs' journals: loss, teacher entropy (with ln K) and KL, to see collapses."""

from __future__ import annotations

from pathlib import Path

from workflow.inputs.figure_spec import JOURNAL
from workflow.results.figures.epochs import compose_journals
from workflow.results.figures.style import complete, figure_style, save
from workflow.results.summary import StudyResults


def draw_curves(results: StudyResults, folder: Path) -> list[Path]:
    """Draw ``<study>-curves.png`` and ``.pdf`` into ``folder``: a panel a quantity, a colour a variant, a line a seed.

    Raises:
        UserError: A journal is malformed.
    """
    study = results.study
    title = f"{study.title}: training"
    with figure_style():
        figure = complete(compose_journals(results, list(JOURNAL)), title=title)
        return save(figure, folder / f"{study.name}-curves", title=title, results=results)
