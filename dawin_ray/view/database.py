"""DuckDB over the Parquet files of runs: views, and SELECT alone.

A database in memory that holds nothing but views of the runs' sealed files and the names of their
classes. Once these are made, it opens no other file, loads no extension and takes no setting any
more, whatever a statement says; statements that are no SELECT are refused before they run, and what
runs is read-only, has a limit of time, of rows and of memory, and can spill to no disk.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from dawin_ray.errors import UserError
from dawin_ray.names import escaped
from dawin_ray.storage import filesystem, is_local
from dawin_ray.tables import OF_DATASETS
from dawin_ray.view.opened import OpenedRun, StoredPart

SECONDS = 30.0  # of a statement
EXPORT_SECONDS = 600.0  # of one whose rows are fetched as fast as a browser takes them
MAX_ROWS = 1_000  # shown of a statement
MEMORY = "4GB"
MAX_MESSAGE = 600  # characters of what DuckDB says
BATCH = 10_000  # rows of an exported table at a time

# `samples` with the place of each row, for our own statements: see `places`.
PLACED = "placed_samples"
PLACE = ", filename AS stored_file, file_row_number AS stored_row"

CACHED = 64  # results that are held, as files of a finished run do not change


class QueryError(UserError):
    """A statement that is refused, wrong or too slow, in words."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Rows of a statement, and whether there are more than were asked for."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool
    seconds: float

    def dicts(self) -> list[dict[str, Any]]:
        """Each row by the names of its columns."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def literal(value: str | int | float) -> str:
    """A value as SQL has it; a text can end nothing but itself.

    Raises:
        QueryError: it is none that a table can hold.
    """
    if isinstance(value, str):
        if "\0" in value:
            raise QueryError(f"{escaped(value)!r} has a zero byte; no text of a table has one.")
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def name_of(table: str, number: int) -> str:
    """A table's name of a run: `samples`, `samples_2` of the second one, and so on."""
    return table if number == 0 else f"{table}_{number + 1}"


class Database:
    """The views of some runs. May be asked by several threads."""

    def __init__(self, runs: Sequence[OpenedRun]):
        """Opens the files' footers; raises UserError where one cannot be read."""
        self._cache: OrderedDict[tuple[str, int], Result] = OrderedDict()
        self._lock = threading.Lock()
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "allow_community_extensions": "false",
                "python_enable_replacements": "false",
                "memory_limit": MEMORY,
                "temp_directory": "",
            },
        )
        try:
            self._register(runs)
            for run in runs:
                self._make_views(run)
            files = [part.address for run in runs for parts in run.files.values() for part in parts]
            self._connection.execute(f"SET allowed_paths = {_list(files)}")
        except duckdb.Error as error:
            raise UserError(f"The files of the runs cannot be read: {_told(error)}") from error
        for setting in ("enable_external_access = false", "lock_configuration = true"):
            self._connection.execute(f"SET {setting}")

    def query(self, sql: str, max_rows: int = MAX_ROWS, seconds: float = SECONDS) -> Result:
        """The first rows of a statement; a result that was had before is had again.

        Raises:
            QueryError: it is no single SELECT, is wrong, or takes longer.
        """
        key = (sql, max_rows)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        began = time.perf_counter()
        _check(sql)
        with self._limited(seconds) as cursor:
            cursor.execute(sql)
            columns = tuple(column[0] for column in cursor.description or ())
            rows = cursor.fetchmany(max_rows + 1)
        result = Result(
            columns=columns,
            rows=tuple(rows[:max_rows]),
            more=len(rows) > max_rows,
            seconds=time.perf_counter() - began,
        )
        with self._lock:
            self._cache[key] = result
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return result

    def stream(self, sql: str, max_rows: int) -> Iterator[pa.RecordBatch]:
        """The first rows of a statement as Arrow has them: an empty batch, then those with rows.

        Raises as `query`.
        """
        _check(sql)
        limited = f"SELECT * FROM (\n{sql.rstrip().rstrip(';')}\n) LIMIT {max_rows}"
        with self._limited(EXPORT_SECONDS) as cursor:
            reader = cursor.sql(limited).to_arrow_reader(BATCH)
            yield pa.RecordBatch.from_pylist([], reader.schema)
            yield from reader

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor that can only read; what it runs is stopped when its time is over."""
        cursor = self._connection.cursor()
        late = threading.Event()

        def stop() -> None:
            late.set()
            cursor.interrupt()

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            # an INSERT within a WITH is a SELECT by its kind
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield cursor
        except (duckdb.Error, pa.ArrowException, OSError) as error:  # Arrow's are of a reader
            if late.is_set():
                raise QueryError(
                    f"The statement took longer than {seconds:g} s and was stopped. Ask for less: "
                    "a data set, fewer columns, a LIMIT."
                ) from error
            raise QueryError(_told(error)) from error
        finally:
            timer.cancel()
            cursor.close()

    def _register(self, runs: Sequence[OpenedRun]) -> None:
        """Let DuckDB read what lies elsewhere by the clients that wrote it."""
        known = set()
        for run in runs:
            fs = filesystem(run.address)[0]
            if not is_local(fs) and id(fs) not in known:
                self._connection.register_filesystem(fs)
                known.add(id(fs))

    def _make_views(self, run: OpenedRun) -> None:
        for kind in OF_DATASETS:
            self._connection.execute(
                f"CREATE VIEW {name_of(kind, run.number)} AS {rows_of(run, run.files[kind])}"
            )
        if run.files["rejects"]:
            self._connection.execute(
                f"CREATE VIEW {name_of('rejects', run.number)} AS "
                f"SELECT * FROM {_reading(run.files['rejects'])}"
            )
        for view, extra in (("samples", ""), (PLACED, PLACE)):
            rows = rows_of(run, run.files["predictions"], extra)
            self._connection.execute(
                f"CREATE VIEW {name_of(view, run.number)} AS {samples_of(run, rows)}"
            )
        classes = name_of("classes", run.number)
        self._connection.execute(f"CREATE TABLE {classes} (dataset TEXT, class INTEGER, name TEXT)")
        lines = [
            [dataset, number, escaped(name)]
            for dataset in run.datasets
            for number, name in enumerate(run.class_names(dataset) or ())
        ]
        if lines:
            self._connection.executemany(f"INSERT INTO {classes} VALUES (?, ?, ?)", lines)


def samples_of(run: OpenedRun, rows: str) -> str:
    """A SELECT of predictions, with who was right."""
    right = [f"(expert_prediction[{i + 1}] = label)::INTEGER" for i in range(len(run.experts))]
    return (
        "SELECT dataset, batch, * EXCLUDE (dataset, batch), prediction = label AS merged_right, "
        f"{' + '.join(right)} AS experts_right FROM ({rows})"
    )


def rows_of(run: OpenedRun, parts: Sequence[StoredPart], extra: str = "") -> str:
    """A SELECT of a table's parts, with the names of their data sets and batches."""
    if "=" not in run.address:
        partitions = (
            "{'dataset': VARCHAR, 'batch': VARCHAR}" if run.grows else ("{'dataset': VARCHAR}")
        )
        batch = "batch" if run.grows else "'' AS batch"
        options = f", hive_partitioning = true, hive_types = {partitions}"
        return (
            f"SELECT * EXCLUDE ({'dataset, batch' if run.grows else 'dataset'}), dataset, "
            f"{batch}{extra} FROM {_reading(parts, options)}"
        )
    # a folder above the run would be taken for a partition, too
    places = dict.fromkeys((part.dataset, part.batch) for part in parts)
    return " UNION ALL ".join(
        f"SELECT *, {literal(dataset)} AS dataset, {literal(batch)} AS batch{extra} FROM "
        + _reading([part for part in parts if (part.dataset, part.batch) == (dataset, batch)])
        for dataset, batch in places
    )


def _reading(parts: Sequence[StoredPart], options: str = ", hive_partitioning = false") -> str:
    return f"read_parquet({_list([part.address for part in parts])}{options})"


def _check(sql: str) -> None:
    """Refuse what is not one SELECT.

    Raises:
        QueryError: it is something else.
    """
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(_told(error)) from error
    if len(statements) != 1:
        raise QueryError(f"Expected one SELECT statement, got {len(statements)}.")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(f"Only SELECT is run here, and this is {kind.name}.")


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(literal, texts))}]"


def _told(error: Exception) -> str:
    return str(error)[:MAX_MESSAGE]
