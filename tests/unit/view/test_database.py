"""Nothing but SELECT of the runs' own rows, whatever a statement tries."""

import os
from pathlib import Path

import duckdb
import pytest

from dawin_ray.errors import UserError
from dawin_ray.view.database import Database, QueryError, literal
from dawin_ray.view.opened import open_runs
from tests.unit.view.conftest import CLASS_NAMES, COUNT

SECRET = "only for us"


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.csv"
    path.write_text(f"a,b\n{SECRET},1\n")
    return path


def test_rows_are_those_of_the_run(database, run):
    found = database.query("SELECT dataset, count(*) FROM samples GROUP BY ALL ORDER BY ALL")
    assert found.rows == (("images", COUNT), ("rows", COUNT), ("tars", COUNT))
    assert run.rows == 3 * COUNT
    names = database.query("SELECT name FROM classes WHERE dataset = 'tars' ORDER BY class").rows
    assert [name for (name,) in names][:3] == CLASS_NAMES[:3]
    assert "\\x1b" in names[3][0]


def test_who_was_right_is_what_the_columns_say(database):
    found = database.query(
        "SELECT label, prediction, expert_prediction, merged_right, experts_right FROM samples"
    )
    for label, prediction, experts, merged, right in found.rows:
        assert merged == (None if label is None else label == prediction)
        assert right == (None if label is None else sum(p == label for p in experts))


@pytest.mark.parametrize(
    "sql",
    [
        "COPY samples TO '{new}'",
        "COPY (SELECT 1) TO '{part}'",
        "ATTACH '{new}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "PRAGMA version",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "CREATE TABLE t (a INTEGER)",
        "CREATE TEMP VIEW v AS SELECT 1",
        "CREATE SECRET s (TYPE s3)",
        "INSERT INTO classes VALUES ('a', 1, 'b')",
        "UPDATE classes SET name = ''",
        "DELETE FROM classes",
        "DROP VIEW samples",
        "ALTER TABLE classes RENAME TO others",
        "EXPORT DATABASE '{new}'",
        "IMPORT DATABASE '{new}'",
        "CALL pragma_version()",
        "PREPARE p AS SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "BEGIN",
        "CHECKPOINT",
        "VACUUM",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY samples TO '{new}'",
        "",
        "-- nothing",
        "SELEKT",
    ],
)
def test_what_is_no_single_select_is_refused(database, run, tmp_path, sql):
    part = run.files["predictions"][0].address
    before = Path(part).read_bytes()
    with pytest.raises(QueryError):
        database.query(sql.format(new=tmp_path / "new", part=part))
    with pytest.raises(QueryError):
        list(database.stream(sql.format(new=tmp_path / "new", part=part), 10))
    assert not (tmp_path / "new").exists()
    assert Path(part).read_bytes() == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM read_json('{file}')",
        "SELECT * FROM read_parquet('{file}')",
        "SELECT * FROM parquet_metadata('{file}')",
        "SELECT * FROM sniff_csv('{file}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_text('{run}/manifest.json')",
        "SELECT * FROM read_text('{run}/predictions/../manifest.json')",
        "SELECT * FROM read_csv('http://127.0.0.1:9/')",
        "SELECT * FROM read_parquet('s3://bucket/a.parquet')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM query('COPY samples TO ''{file}''')",
        "SELECT * FROM query_table('{file}')",
        "SELECT * FROM arrow_scan(1, 1, 1)",
        "SELECT * FROM pandas_scan(1)",
        "SELECT getenv('HOME')",
        "SELECT * FROM secret",
        "SELECT * FROM enable_logging()",
        "SELECT * FROM json_execute_serialized_sql('COPY')",
        "WITH x AS (INSERT INTO classes VALUES ('a', 1, 'b') RETURNING *) SELECT * FROM x",
        "SELECT * FROM (DELETE FROM classes RETURNING *)",
    ],
)
def test_a_select_reaches_no_other_file_and_changes_nothing(database, run, secret, sql):
    count = database.query("SELECT count(*), 1 AS fresh FROM classes").rows
    told = sql.format(file=secret, folder=secret.parent, run=run.address)
    with pytest.raises(QueryError) as error:
        database.query(told)
    assert SECRET not in str(error.value)
    assert database.query("SELECT count(*), 2 AS fresh FROM classes").rows[0][0] == count[0][0]
    assert secret.read_text().startswith("a,b")


def test_variables_of_the_program_are_no_tables(database, monkeypatch):
    import pandas as pd

    hidden = pd.DataFrame({"a": [SECRET]})
    monkeypatch.setattr("dawin_ray.view.database.hidden", hidden, raising=False)
    with pytest.raises(QueryError, match="hidden"):
        database.query("SELECT * FROM hidden")
    with pytest.raises(QueryError, match="hidden"):
        list(database.stream("SELECT * FROM hidden", 9))


def test_the_configuration_is_locked(database):
    for name in ("enable_external_access", "allowed_paths", "lock_configuration", "threads"):
        with pytest.raises(duckdb.Error):
            database._connection.cursor().execute(f"SET {name} = 1")
    with pytest.raises(duckdb.Error, match=r"[Cc]annot access"):
        database._connection.cursor().execute("SELECT * FROM read_text('/etc/passwd')")


def test_a_statement_has_a_limit_of_time_and_of_rows(database):
    with pytest.raises(QueryError, match="longer than"):
        database.query("SELECT count(*) FROM range(1000000000000) a", seconds=0.2)
    with pytest.raises(QueryError, match="longer than"):
        database.query(
            "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", seconds=0.2
        )
    few = database.query("SELECT * FROM range(100)", max_rows=7)
    assert len(few.rows) == 7
    assert few.more
    assert sum(batch.num_rows for batch in database.stream("SELECT * FROM range(100)", 9)) == 9
    assert len(database.query("SELECT 1").rows) == 1  # and goes on


def test_a_statement_may_end_with_a_comment(database):
    empty, batch = database.stream("SELECT 1 AS a -- one\n;", 9)
    assert empty.schema == batch.schema
    assert batch.to_pydict() == {"a": [1]}


@pytest.mark.parametrize("text", ["it's", "'; DROP TABLE x; --", "\\'", "a\nb", "''", "$1 ? %s"])
def test_a_literal_ends_nothing_but_itself(database, text):
    assert database.query(f"SELECT {literal(text)}").rows == ((text,),)


def test_a_text_with_a_zero_byte_is_refused():
    with pytest.raises(QueryError, match="zero byte"):
        literal("a\0b")


def test_no_folder_above_a_run_is_taken_for_a_partition(run_dir, tmp_path):
    above = tmp_path / "dataset=other" / "batch=b"
    above.mkdir(parents=True)
    os.symlink(run_dir, above / "run")
    runs = open_runs([str(above / "run")])
    found = Database(runs).query("SELECT DISTINCT dataset, batch FROM samples ORDER BY ALL")
    assert found.rows == (("images", ""), ("rows", ""), ("tars", ""))


def test_a_damaged_file_is_told(run_dir, tmp_path):
    import shutil

    shutil.copytree(run_dir, tmp_path / "run")
    part = next((tmp_path / "run" / "predictions").glob("*/*.parquet"))
    part.write_bytes(b"no parquet")
    with pytest.raises(UserError, match="cannot be read"):
        Database(open_runs([str(tmp_path / "run")]))


def test_the_second_run_has_tables_of_its_own(run_dir):
    both = Database(open_runs([run_dir, run_dir]))
    sql = "SELECT count(*) FROM samples a JOIN samples_2 b USING (dataset, sample_id)"
    assert both.query(sql).rows == ((3 * COUNT,),)
