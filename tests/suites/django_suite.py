"""Settings for Django's own tests (`runtests.py --settings=django_suite`), and a runner that notes every
outcome as a line of JSON. Nothing of Django or its tests is changed."""

import json
import os
import traceback
import unittest


def _database(name):
    return {
        "ENGINE": "django.db.backends.postgresql", "NAME": name, "HOST": "127.0.0.1",
        "PORT": os.environ["SUITE_PORT"], "USER": "suite", "PASSWORD": os.environ["SUITE_PASSWORD"],
        # It is there already: `runtests.py --keepdb` neither makes nor drops databases.
        "TEST": {"NAME": name},
    }


DATABASES = {"default": _database("suite"), "other": _database("other")}
SECRET_KEY = "of the tests"
USE_TZ = False
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TEST_RUNNER = "django_suite.Runner"


def _note(test, outcome, error=None):
    text = "" if error is None else "".join(traceback.format_exception(*error))
    with open(os.environ["SUITE_RESULTS"], "a", encoding="utf-8") as file:
        file.write(json.dumps({"id": test.id(), "outcome": outcome, "text": text[-8000:]}) + "\n")


class Noting(unittest.TextTestResult):
    def addSuccess(self, test):
        super().addSuccess(test)
        _note(test, "passed")

    def addError(self, test, error):
        super().addError(test, error)
        _note(test, "failed", error)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        _note(test, "failed", error)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            _note(test, "failed", error)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        _note(test, "skipped")

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        _note(test, "passed")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        _note(test, "failed")


def __getattr__(name):
    """The runner is made when it is asked for: Django cannot be imported while its settings are read."""
    if name != "Runner":
        raise AttributeError(name)
    from django.test.runner import DiscoverRunner

    class Runner(DiscoverRunner):
        def get_resultclass(self):
            return Noting

    return Runner
