import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mmgkeras.errors import InputError
from mmgkeras.progress import untracked
from mmgkeras.ray_actors import RayActors

from .processes import FEW_PAGES, pages_of_an_image


def in_folder(name: str) -> str:
    return f"{name} {Path.cwd()}"


def dies_once(number: int, *, folder: Path) -> int:
    """Of the first item, kills its process the first time."""
    mark = folder / "died"
    if number == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fails(number: int) -> int:
    raise InputError(f"{number}: is no good")


def process(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


begun: list[int] = []
"""Of the actor's process."""


def at_once(number: int) -> tuple[int, str | None, int]:
    """The process, the GPUs that it may see, and the number of items that are begun and not done."""
    begun.append(number)
    time.sleep(0.2)
    last = len(begun)
    begun.remove(number)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), last


class Other:
    """Of another user of the cluster."""

    def begin(self) -> None:
        pass


@pytest.mark.usefixtures("ray_cluster")
class TestMap:
    def test_results_come_in_the_order_of_the_items(self) -> None:
        made = RayActors().map(abs, range(-20, 20), label="work", track=untracked)
        assert list(made) == [abs(number) for number in range(-20, 20)]

    def test_the_work_is_spread_over_two_other_processes(self) -> None:
        processes = set(RayActors().map(process, range(20), label="work", track=untracked))
        assert len(processes) == 2
        assert os.getpid() not in processes

    @pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
    def test_an_actor_keeps_the_memory_of_an_image_for_the_next(self) -> None:
        pages = list(RayActors().map(pages_of_an_image, range(12), label="work", track=untracked))
        assert sorted(pages)[5] < FEW_PAGES < max(pages)

    def test_paths_are_those_of_the_process_that_asks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert list(RayActors().map(in_folder, ["a"], label="work", track=untracked)) == [f"a {tmp_path}"]

    def test_what_a_dead_actor_worked_on_is_done_again(self, tmp_path: Path) -> None:
        made = RayActors().map(partial(dies_once, folder=tmp_path), range(12), label="work", track=untracked)
        assert list(made) == list(range(12))
        assert (tmp_path / "died").exists()

    def test_an_actor_without_room_holds_nothing_up(self) -> None:
        import ray

        other = ray.remote(Other).options(num_cpus=1).remote()
        try:
            ray.get(other.begin.remote())
            processes = set(RayActors().map(process, range(12), label="work", track=untracked))
        finally:
            ray.kill(other)
        assert len(processes) == 1

    def test_a_gpu_has_one_actor_that_does_several_things_at_once(self) -> None:
        made = list(RayActors(can_use_gpus=True).map(at_once, range(8), label="work", track=untracked))
        assert {process for process, _, _ in made} == {made[0][0]}
        assert {devices for _, devices, _ in made} == {"0"}
        assert max(number for _, _, number in made) > 1

    def test_the_users_faults_come_as_they_are(self) -> None:
        with pytest.raises(InputError, match=r"^3: is no good$"):
            list(RayActors().map(fails, [3], label="work", track=untracked))

    def test_an_actor_that_dies_over_and_over_is_one_line(self) -> None:
        with pytest.raises(InputError, match="work: a worker ended") as fault:
            list(RayActors().map(os._exit, [1], label="work", track=untracked))
        assert "\n" not in str(fault.value)

    def test_machines_with_another_version_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mmgkeras.ray_actors.__version__", "0.0.0")
        with pytest.raises(InputError, match=r"all machines must have mmgkeras 0.0.0. Received: "):
            list(RayActors().map(abs, [1], label="work", track=untracked))


@pytest.mark.usefixtures("ray_cluster")
def test_a_cluster_that_is_started_here_listens_on_the_loopback_alone() -> None:
    list(RayActors().map(abs, [1], label="work", track=untracked))
    assert {address for address, is_ours in listening() if is_ours} == {"127.0.0.1"}


def listening() -> Iterator[tuple[str, bool]]:
    """The address of each socket that listens, and whether it is this process' or one of Ray's."""
    addresses = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            raw = bytes.fromhex(columns[1].partition(":")[0])
            packed = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
            address = socket.inet_ntop(socket.AF_INET if table == "tcp" else socket.AF_INET6, packed)
            if columns[3] == "0A":
                addresses[f"socket:[{columns[9]}]"] = address.removeprefix("::ffff:")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = int(folder.name) == os.getpid() or b"ray" in (folder / "cmdline").read_bytes().split(b"\0")[0]
            links = [str(link.readlink()) for link in (folder / "fd").iterdir()]
        except OSError:  # has ended, or is another user's
            continue
        yield from ((addresses[link], is_ours) for link in links if link in addresses)


def test_an_address_where_no_cluster_is_is_one_line(quadrant_data: Path, tmp_path: Path) -> None:
    command = ["prepare", "--data", str(quadrant_data), "--out", str(tmp_path / "store"), "--engine", "ray"]
    code = "import sys; from mmgkeras.cli import main; main(sys.argv[1:])"
    result = subprocess.run(
        [sys.executable, "-c", code, *command, "--ray-address", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: Ray's address must be ")
    assert result.stderr.count("\n") == 1


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"the engine ray needs ray.*pip install 'mmgkeras\[ray\]'"):
        list(RayActors().map(abs, [1], label="work", track=untracked))
