"""What holds for every test: reproducible examples, and sessions that start no threads."""

from itertools import groupby

import pytest
from hypothesis import HealthCheck, settings

from onnx_deconv.operators import rule_tables

# The same examples everywhere and no deadline: a slow machine is no failure. New examples are looked
# for by "pytest --hypothesis-profile=search".
settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("search", settings.get_profile("fixed"), derandomize=False, max_examples=1500)
settings.load_profile("fixed")

FEW = 12
"""Of a test of many cases, ``-m fast`` runs about so many, spread evenly over them."""


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what -m does not name
def pytest_collection_modifyitems(items):
    """Mark what the edit loop runs: whatever is not marked slow, and of many cases a few."""
    for _, cases in groupby(items, key=lambda item: (item.path, getattr(item, "originalname", item.name))):
        listed = list(cases)
        for item in listed[:: -(-len(listed) // FEW)]:
            if item.get_closest_marker("slow") is None:
                item.add_marker("fast")


@pytest.fixture(scope="session", autouse=True)
def _one_thread_per_session():
    """Thread pools take ten times as long to start as the tests' models take to run."""
    ort = pytest.importorskip("onnxruntime")
    make = ort.SessionOptions

    def one_thread():
        options = make()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return options

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ort, "SessionOptions", one_thread)
        yield


@pytest.fixture(autouse=True)
def _rule_tables_of_one_test_alone():
    """A table that a test makes is known by its name from then on: to no other test."""
    known = rule_tables()
    before = dict(known)
    yield
    known.clear()
    known.update(before)
