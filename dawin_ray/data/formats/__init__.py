"""The formats of data sets, a module each.

To add one: a module here that makes a `Format` (see `format`), whose reader yields a `Sample` for
each one of a shard, with an `error` where it is of no use; and its name in `registry.FORMATS`. The
job file's `format`, the listing, plans, forecasts, reports and `mode: append` ask the record. A
format whose files are shards of many samples needs `suffixes`, `files`, `read` and `count` only.
"""
