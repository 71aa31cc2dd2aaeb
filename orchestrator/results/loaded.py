"""Results as pandas DataFrames: `load(DIR).rows`.

pandas is optional; it is imported when a table is asked for.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import HostNotFit, UsageError
from orchestrator.results.bundle import Bundle, open_bundle, read_rows
from orchestrator.results.html import document_html, table_html
from orchestrator.results.sweep_table import shown_table

if TYPE_CHECKING:
    import pandas

__all__ = ["Results", "load"]


class Results:
    """A run or a sweep that was kept in a folder.

    Attributes:
        bundle: The folder and its `run.json` or `sweep.json`.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __repr__(self) -> str:
        return f"Results({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The folder."""
        return self.bundle.path

    @property
    def document(self) -> dict[str, Any]:
        """What `run.json` or `sweep.json` holds."""
        return dict(self.bundle.document)

    @property
    def runs(self) -> list[Results]:
        """The runs of a sweep; of a run, itself."""
        return [Results(each) for each in self.bundle.runs]

    @cached_property
    def rows(self) -> pandas.DataFrame:
        """What the roles reported, one row each.

        Those of a sweep have the columns `run`, `repetition` and one for each swept key before their own.

        Raises:
            HostNotFit: pandas is not installed.
        """
        return self._joined("rows")

    @cached_property
    def series(self) -> pandas.DataFrame:
        """The time series: `time_s`, `kind`, `object`, `metric`, `value`; of a sweep as `rows`.

        Raises:
            HostNotFit: pandas is not installed.
            UsageError: No run has time series.
        """
        if not any((run.path / "series.parquet").is_file() for run in self.bundle.runs):
            raise UsageError(
                f"{self.path} has no time series",
                id="results.no-series",
                expected="series.parquet",
            )
        return self._joined("series")

    def _repr_html_(self) -> str:
        if self.bundle.kind == "sweep":
            return document_html(self.bundle.document) + table_html(shown_table(self.bundle.document))
        return document_html(self.bundle.document, read_rows(self.bundle))

    def _joined(self, what: str) -> pandas.DataFrame:
        pandas = _pandas()
        frames = []
        for run in self.bundle.runs:
            frame = _frame(run, what)
            own = [("run", run.name), ("repetition", run.part.get("repetition"))] if run.part else []
            for place, (key, value) in enumerate([*own, *self.bundle.swept(run).items()]):
                frame.insert(place, key if key not in frame.columns else f"{key} (swept)", value)
            frames.append(frame)
        return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame()


def load(path: str | Path) -> Results:
    """Open the folder of a run or a sweep.

    Example:
        results = load("results/2026-01-31-120000-pingall-5f0c1d")
        results.rows.groupby("node").rtt_ms_median.describe()

    Raises:
        UsageError: It is no such folder, or a later version of nm wrote it.
    """
    return Results(open_bundle(Path(path)))


def _frame(run: Bundle, what: str) -> pandas.DataFrame:
    pandas = _pandas()
    file = run.path / f"{what}.parquet"
    if file.is_file():
        return pandas.read_parquet(file)
    return pandas.DataFrame(read_rows(run) if what == "rows" else [])


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise HostNotFit(
            "pandas is not installed",
            id="pandas.missing",
            hint='`pip install "nm-testbed[notebook]"` installs it',
        ) from error
    return pandas
