import os

import pytest

from mmgkeras.errors import InputError
from mmgkeras.progress import untracked
from mmgkeras.sources.processes import in_processes


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_come_in_the_order_of_the_items(num_workers: int) -> None:
    assert in_processes(abs, [-3, 2, -1], num_workers=num_workers, label="work", track=untracked) == [3, 2, 1]


def test_a_process_that_ends_is_one_line() -> None:
    with pytest.raises(InputError, match="work: one of 2 processes ended"):
        in_processes(os._exit, [1], num_workers=2, label="work", track=untracked)
