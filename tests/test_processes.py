import os
import platform
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from mmgkeras.errors import InputError
from mmgkeras.processes import HERE, Processes, Threads, Workers, kept
from mmgkeras.progress import untracked

from .processes import FEW_PAGES, pages_of_an_image


def _pid(_: object) -> int:
    return os.getpid()


@pytest.mark.parametrize("workers", [HERE, Processes(2), Threads(3)], ids=str)
def test_results_come_in_the_order_of_the_items(workers: Workers) -> None:
    made = workers.map(abs, range(-9, 9), label="work", track=untracked)
    assert list(made) == [abs(number) for number in range(-9, 9)]


def test_a_process_that_ends_is_one_line() -> None:
    with pytest.raises(InputError, match="work: a worker ended"):
        list(Processes(2).map(os._exit, [1], label="work", track=untracked))


def test_no_more_is_begun_than_is_asked_for() -> None:
    begun: list[int] = []
    made = HERE.map(begun.append, range(9), label="work", track=untracked)
    next(made)
    assert begun == [0]


def test_for_few_items_no_process_is_started() -> None:
    here, other = (list(Processes(2).map(_pid, [0, 1], label="work", track=untracked, few=few)) for few in (2, 1))
    assert set(here) == {os.getpid()}
    assert os.getpid() not in other


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize("workers", [HERE, Processes(2)], ids=str)
def test_a_process_keeps_the_memory_of_an_image_for_the_next(workers: Workers) -> None:
    first, *others = workers.map(pages_of_an_image, range(12), label="work", track=untracked)
    assert sorted(others)[5] < FEW_PAGES
    assert workers == HERE or first > FEW_PAGES  # this process may have kept as much before


def _num_blas_threads(_: object) -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_a_process_has_one_thread_for_linear_algebra() -> None:
    assert list(Processes(2).map(_num_blas_threads, [0], label="work", track=untracked)) == [{1}]


def test_what_was_made_of_a_file_is_kept_while_the_file_is_as_it_was(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "kept.json"
    source.write_text("a")
    assert kept(place, source, lambda: {"x": 1}) == {"x": 1}
    assert kept(place, source, lambda: {"x": 2}) == {"x": 1}
    source.write_text("ab")
    assert kept(place, source, lambda: {"x": 3}) == {"x": 3}
    place.write_text(place.read_text()[:-3])
    assert kept(place, source, lambda: {"x": 4}) == {"x": 4}
    source.unlink()
    assert kept(place, source, lambda: None) is None
