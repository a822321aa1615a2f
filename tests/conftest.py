"""Fixtures every test may use, and how Hypothesis runs: time is never asserted in a test, so it has no deadline."""

from hypothesis import settings

pytest_plugins = ["tests.fixtures_db"]

settings.register_profile("mingjian", deadline=None)
settings.load_profile("mingjian")
