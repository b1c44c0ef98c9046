"""Reads a table of the lake with deltalake and with DuckDB; prints the rows that each sees as JSON.

DuckDB is told by deltalake which files the current version has, so that it needs no extension.
Usage: lake.py TABLE
"""

import json
import sys

import duckdb
from deltalake import DeltaTable, QueryBuilder

table = DeltaTable(sys.argv[1])
columns = "log, principal_id, operation"
read = QueryBuilder().register("events", table).execute(
    f"SELECT encode(event_id, 'hex') AS id, {columns} FROM events ORDER BY id"
)
of_deltalake = [list(row) for row in zip(*(column.to_pylist() for column in read.read_all().columns))]
of_duckdb = duckdb.execute(
    f"SELECT lower(hex(event_id)) AS id, {columns} FROM read_parquet(?, hive_partitioning = true) ORDER BY id",
    [table.file_uris()],
).fetchall()
json.dump({"deltalake": of_deltalake, "duckdb": of_duckdb}, sys.stdout)
