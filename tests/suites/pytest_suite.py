"""A pytest plugin (`-p pytest_suite`) that notes every outcome as a line of JSON, for SQLAlchemy's suites."""

import json
import os

import pytest


@pytest.hookimpl
def pytest_collection():
    """Two things are said to SQLAlchemy's suite, either way: that there are no temporary views (or all tests of
    reflection would fail in their preparations), and that nobody looks for idle sessions of other clients between
    tests, which is its house-keeping and not what it tests."""
    from sqlalchemy.testing import config, exclusions, provision

    type(config.requirements).temporary_views = property(lambda _self: exclusions.closed())
    provision.prepare_for_drop_tables.for_db("postgresql")(lambda _config, _connection: None)


@pytest.hookimpl
def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        outcome = "passed" if hasattr(report, "wasxfail") else report.outcome
        text = report.longreprtext[-8000:] if outcome == "failed" else ""
        with open(os.environ["SUITE_RESULTS"], "a", encoding="utf-8") as file:
            file.write(json.dumps({"id": report.nodeid, "outcome": outcome, "text": text}) + "\n")
