"""Why a test may fail through Hedgerow and pass directly. What is on no list fails `make suites`.

Each entry: what it matches (the denial, `HR1002: CREATE FUNCTION`, or the test's id), and why.
"""

REASONS = [
    (r"HR1002: CREATE (FUNCTION|PROCEDURE|AGGREGATE|OPERATOR|TYPE|COLLATION|TEXT SEARCH)", "HR1002: functions, collations and other code that runs later are made past Hedgerow, by the owner"),
    (r"HR1002: (CREATE|ALTER|DROP) EXTENSION", "HR1002: extensions are made past Hedgerow, by the owner"),
    (r"HR1002: two-phase", "HR1002: a prepared transaction would outlive its tenant's session"),
    (r"HR1002", "HR1002: another kind of statement that is not on the list"),
    (r"HR1005: operator", "HR1005: operators that only an extension defines (word similarity of `pg_trgm`)"),
    (r"HR1005: pg_catalog.pg_get_viewdef", "HR1005: `pg_get_viewdef` shows texts of the operator's"),
    (r"HR1006: role", "HR1006: the role is the operator's"),
    (r"HR1006: search_path", "HR1006: names resolve by the path that the role has"),
    (r"HR1006: standard_conforming_strings", "HR1006: the parsers rely on `standard_conforming_strings`"),
    (r"HR1007: pg_cursors", "HR1007: `pg_cursors` shows texts of statements"),
    (r"HR1007", "HR1007: catalogs that show what others do, or texts of the operator's"),
    (r"HR1001", "HR1001: FETCH FIRST (an expression) ROWS WITH TIES"),
    (r"HR1003", "HR1003: a relation that no policy names, or that its own transaction has made and rules rest on"),
    (r"HR1008", "HR1008: the canonical printer (libpg_query) leaves out INCLUDE of an exclusion constraint"),
]
