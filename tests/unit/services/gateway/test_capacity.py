"""A full gateway is not ready, and is ready again when it has room; it says so if it has not the files."""

import pytest
from structlog.testing import capture_logs

from services.gateway.capacity import Capacity


def test_a_full_gateway_is_not_ready_until_it_has_room_again() -> None:
    """Not with every socket that goes."""
    counts = iter((0, 999, 1000, 1200, 999, 950, 949, 999, 1000))
    capacity = Capacity(1000, lambda: next(counts))
    ready = [capacity.problem is None for _ in range(9)]
    assert ready == [True, True, False, False, False, False, True, True, False]


def test_it_says_how_many_are_too_many() -> None:
    """With the setting's name, for who reads /readyz."""
    assert "SOCKETS_SOFT_MAX=10" in str(Capacity(10, lambda: 11).problem)


def test_without_a_bound_no_number_is_too_many() -> None:
    """0 is the default."""
    assert Capacity(0, lambda: 1_000_000).problem is None


@pytest.mark.parametrize(("file_limit", "lines"), [(1024, 1), (20_255, 1), (20_256, 0), (1_048_576, 0)])
def test_too_few_files_for_the_sockets_are_told(file_limit: int, lines: int) -> None:
    """containerd gives 1,024 where nobody raised the hard limit."""
    with capture_logs() as said:
        Capacity(20_000, lambda: 0).check_files(file_limit)
    assert [line["log_level"] for line in said] == ["warning"] * lines


@pytest.mark.parametrize(
    ("soft_max", "file_limit", "most"),
    [(15_000, 1_048_576, 15_000), (15_000, 1024, 768), (0, 1024, 768), (0, 100, 0)],
)
def test_it_is_full_by_its_setting_or_by_its_files(soft_max: int, file_limit: int, most: int) -> None:
    """Whichever comes first; an alert looks at it."""
    assert Capacity(soft_max, lambda: 0).most(file_limit) == most
