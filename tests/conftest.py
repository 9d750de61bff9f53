"""`pytest --device cuda:0` takes the tables of gradients to another device."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        default="cpu",
        help="where the gradients of tests/gradients are computed, but for links' poses and Mitsuba (default: cpu)",
    )


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--device")
