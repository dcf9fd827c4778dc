"""What holds for every test: reproducible examples, and sessions that start no threads."""

import pytest
from hypothesis import HealthCheck, settings

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
