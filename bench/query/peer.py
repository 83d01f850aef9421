"""Answers one question with DuckDB or pandas, in a process of its own; prints the rows and the time, start left out."""

import json
import sys
import time

import queries

engine, name = sys.argv[1:]
if engine == "duckdb":
    import duckdb

    begun = time.perf_counter()
    rows = duckdb.sql(queries.SQL[name]).fetchall()
else:
    import pandas  # noqa: F401, its start is not the query's

    begun = time.perf_counter()
    rows = queries.pandas_answer(name)
seconds = time.perf_counter() - begun
print(json.dumps({"seconds": seconds, "rows": rows}, default=float))
