import pytest

from i2idist.conformance import WorkerPool


@pytest.fixture(scope="session")
def pool():
    with WorkerPool(4) as workers:
        yield workers
