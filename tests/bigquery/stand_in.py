"""Starts bqemulator with one of DuckDB's optimisations off.

DuckDB 1.5 answers `SELECT (SELECT COUNT(*) FROM (X)), (SELECT MAX(v) FROM (X))` with the maximum of another
column for some X (a left join and a join on the same expression): the oracle found it. Its `common_subplan`
is what does it; without, the answer is right.
"""
import sys

import duckdb

connect = duckdb.connect


def without_common_subplan(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.execute("SET disabled_optimizers = 'common_subplan'")
    return connection


duckdb.connect = without_common_subplan

from bqemulator.cli import main  # noqa: E402  (it must see the connect above)

sys.argv[0] = "bqemulator"
sys.exit(main())
