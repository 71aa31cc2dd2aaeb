"""The time series of a run: `series.csv` while it runs, `series.parquet` when it has ended.

A Parquet file can be read only when it is complete, so points are appended to a CSV file, whose lines a crash
or a full disk leaves. `SeriesFile.finish` turns it into Parquet and removes it; `read_series` reads whichever
is there.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.results.folder import unwritable
from orchestrator.results.samples import Point

if TYPE_CHECKING:
    import pyarrow

__all__ = ["COLUMNS", "SeriesFile", "matching", "read_series"]

COLUMNS = ("time_s", "kind", "object", "metric", "value")
_TEXTS = COLUMNS[1:4]
_RUNNING, _ENDED = "series.csv", "series.parquet"


class SeriesFile:
    """Writes the series of one run.

    What cannot be written never ends a run: it is said in `trouble`, and no more is written.

    Attributes:
        trouble: Why something could not be written, as a sentence; empty while all could be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.trouble = ""
        try:
            self._file = (folder / _RUNNING).open("w", newline="", encoding="utf-8")
            self._file.write(",".join(COLUMNS) + "\n")
            self._file.flush()
        except OSError as error:
            self._failed(error)

    def write(self, time_s: float, points: Iterable[Point]) -> None:
        """Append the points of one moment, in seconds from the start of the run."""
        if self.trouble:
            return
        moment = f"{time_s:.3f}"
        try:
            lines = csv.writer(self._file, lineterminator="\n")
            lines.writerows((moment, kind, name, metric, _number(v)) for kind, name, metric, v in points)
            self._file.flush()
        except (OSError, ValueError) as error:
            self._failed(error)

    def close(self) -> None:
        """Stop writing and leave the CSV file. Twice is fine."""
        if not self.trouble:
            with suppress(OSError):
                self._file.close()

    def finish(self) -> None:
        """Stop writing, and make the Parquet file of the CSV file."""
        self.close()
        if self.trouble:
            return
        target, part = self._folder / _ENDED, self._folder / f".{_ENDED}.part"
        try:
            from pyarrow import parquet

            parquet.write_table(
                _read_csv(self._folder / _RUNNING), part, compression="zstd", use_dictionary=list(COLUMNS)
            )
            part.replace(target)
            (self._folder / _RUNNING).unlink()
        except (OSError, ImportError, ValueError) as error:  # pyarrow's errors are ValueErrors or OSErrors
            with suppress(OSError):
                part.unlink(missing_ok=True)
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.trouble = unwritable(self._folder, error).message


def read_series(folder: Path) -> pyarrow.Table | None:
    """Return the series of a run with the columns `COLUMNS`; None if it has none.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is damaged.
    """
    if (folder / _ENDED).is_file():
        from pyarrow import parquet

        return parquet.read_table(folder / _ENDED)
    return _read_csv(folder / _RUNNING) if (folder / _RUNNING).is_file() else None


def matching(table: pyarrow.Table, **patterns: str) -> pyarrow.Table:
    """Return the rows whose columns match patterns with `*` and `?`."""
    import pyarrow
    from pyarrow import compute

    for column, pattern in patterns.items():
        texts = table[column].cast(pyarrow.string())
        wanted = [each for each in texts.unique().to_pylist() if fnmatchcase(each, pattern)]
        table = table.filter(compute.is_in(texts, value_set=pyarrow.array(wanted, pyarrow.string())))
    return table


def _read_csv(path: Path) -> pyarrow.Table:
    """Read the file of a run that may have been killed: a last line that is cut short is left out."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    types: dict[str, Any] = {"time_s": pyarrow.float64(), "value": pyarrow.float64()}
    types.update(dict.fromkeys(_TEXTS, text))
    content = path.read_bytes()
    content = content[: content.rfind(b"\n") + 1] or (",".join(COLUMNS) + "\n").encode()
    return arrow_csv.read_csv(
        pyarrow.BufferReader(content), convert_options=arrow_csv.ConvertOptions(column_types=types)
    )


def _number(value: float) -> Any:
    return value if isinstance(value, int) else f"{value:.6g}"
