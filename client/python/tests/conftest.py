import pytest
import windlass


@pytest.fixture(scope="session")
def cluster():
    """A session with a cluster that ends with the tests."""
    with windlass.connect(slots=2) as session:
        yield session


@pytest.fixture
def session(cluster):
    """A session of its own with that cluster."""
    with windlass.connect(cluster.url) as session:
        yield session
