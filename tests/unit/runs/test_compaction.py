"""From a file a chunk to tables: which there are, in any order, and the same when made again."""

import pyarrow as pa

from dawin_ray import tables
from dawin_ray.data.datasets import Shard
from dawin_ray.runs.compaction import compact, plan_compaction

SHARDS = {
    dataset: [
        Shard(dataset=dataset, name=k, address="", format="webdataset", bytes=1, key=k)
        for k in keys
    ]
    for dataset, keys in {"one": "ba", "two": "c"}.items()
}


def commit(run) -> None:
    for dataset, shards in SHARDS.items():
        for shard in shards:
            for kind, schema in tables.TABLES.items():
                columns = {"sample_id": [f"{kind}/{shard.key}"]}
                if kind == "rejects":
                    columns["dataset"] = [dataset]
                run.work.commit(
                    kind, dataset, shard.key, f"{shard.key}-0", tables.table(schema, columns)
                )


def test_the_plan_has_each_table_of_each_data_set_and_one_of_rejects():
    found = [(c.kind, c.folder, c.shards) for c in plan_compaction(SHARDS)]
    of_one, of_two = (("one", "b"), ("one", "a")), (("two", "c"),)
    assert found == [
        ("experts", ("experts", "dataset=one"), of_one),
        ("predictions", ("predictions", "dataset=one"), of_one),
        ("experts", ("experts", "dataset=two"), of_two),
        ("predictions", ("predictions", "dataset=two"), of_two),
        ("rejects", ("rejects",), of_one + of_two),
    ]


def test_tables_hold_the_rows_of_their_shards_in_their_order(run):
    commit(run)
    written = compact(run, SHARDS)
    assert [part.rows for part in written] == [2, 2, 1, 1, 3]
    ids = pa.concat_tables(run.parts.read("predictions", "dataset=one"))["sample_id"].to_pylist()
    assert ids == ["predictions/b", "predictions/a"]
    assert [part.path for part in written][-1] == "rejects/part-00000.parquet"


def test_tables_may_be_made_in_any_order_and_again(run):
    commit(run)
    written = compact(run, SHARDS)
    again = [part for task in reversed(plan_compaction(SHARDS)) for part in task.make(run)]
    assert sorted(again, key=lambda part: part.path) == sorted(written, key=lambda part: part.path)
