"""Workers of a Ray cluster: actors, each with the work in it, that are given one thing after another.

Owns Ray. The machines of a cluster share their folders, by the same names: what is read and written is the work's.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

from mmgkeras import __version__
from mmgkeras.errors import InputError, extra_needed, shown
from mmgkeras.processes import in_order
from mmgkeras.progress import Track

_In = TypeVar("_In")
_Out = TypeVar("_Out")
LOCAL: Final = "local"
"""The address of a cluster that is started on this machine, and ends with the work."""
_TRIES: Final = 3
"""How often a thing is begun again whose actor died."""
_THREADS_OF_GPU: Final = 4
"""Things that an actor with a GPU works on at once: the GPU on one, while others are read and written."""
_WAITING: Final = 1
"""Things that wait at each actor, so that it does not."""
_ANSWER_S: Final = 10.0
_OBJECT_STORE_BYTES: Final = 2**27
"""Of a local cluster: results are small."""


@dataclass(frozen=True, slots=True)
class RayActors:
    """An actor for each processor core of a cluster, or for each GPU where there are any and they are of use.

    An actor that dies is replaced, and what it worked on is done again. If Ray is connected already, it is taken as it
    is.

    Attributes:
        address: of the cluster, as Ray takes it, or `LOCAL`.
        can_use_gpus: whether the work runs on a GPU.
    """

    address: str = LOCAL
    can_use_gpus: bool = False

    def map(
        self,
        work: Callable[[_In], _Out],
        items: Sequence[_In],
        *,
        label: str,
        track: Track,
        few: int = 0,  # noqa: ARG002 - who asks for Ray gets it
    ) -> Iterator[_Out]:
        """As `Workers.map`.

        Raises:
            InputError: if the extra `ray` is not installed, no cluster is at the address, an actor dies over and over
                again, or the machines have other folders or another version of mmgkeras.
        """
        with extra_needed("ray", to="the engine ray"):
            import ray
        with connected(self.address):
            resources = ray.cluster_resources()
            num_gpus = int(resources.get("GPU", 0)) if self.can_use_gpus else 0
            num_actors = min(num_gpus or int(resources.get("CPU", 0)), len(items)) or 1
            num_threads = _THREADS_OF_GPU if num_gpus else 1
            actor = ray.remote(_Actor).options(
                num_cpus=1,
                num_gpus=min(num_gpus, 1),
                max_concurrency=num_threads,
                max_restarts=-1,
                max_task_retries=_TRIES,
            )
            actors = [actor.remote(work, folder=Path.cwd(), version=__version__) for _ in range(num_actors)]
            num_places = num_actors * (num_threads + _WAITING)
            places: SimpleQueue[Any] = SimpleQueue()
            for one in actors * (num_threads + _WAITING):
                places.put(one)

            def do(item: _In) -> _Out:
                one = places.get()
                try:
                    done: _Out = ray.get(one.do.remote(item))
                except ray.exceptions.RayTaskError as error:
                    raise (error.cause or error) from error
                except ray.exceptions.RayError as error:
                    raise BrokenExecutor(_last_line(error)) from error
                finally:
                    places.put(one)
                return done

            with ThreadPoolExecutor(num_places) as pool:
                try:
                    yield from in_order(pool, do, items, num_waiting=2 * num_places, label=label, track=track)
                finally:
                    for one in actors:
                        ray.kill(one)


class _Actor(Generic[_In, _Out]):
    """The work, in a process of its own on one of the machines."""

    def __init__(self, work: Callable[[_In], _Out], *, folder: Path, version: str) -> None:
        self._work, self._folder, self._version = work, folder, version

    def do(self, item: _In) -> _Out:
        """What the work gives, in the folder of the process that asks."""
        if self._version != __version__:
            raise InputError(f"all machines must have mmgkeras {self._version}. Received: {__version__} on one")
        try:
            os.chdir(self._folder)
        except OSError as error:
            raise InputError(f"{self._folder}: must be there on all machines of the Ray cluster") from error
        return self._work(item)


@contextmanager
def connected(address: str, *, num_cpus: int | None = None) -> Iterator[None]:
    """With a connection to the cluster, which ends with the block if it was made for it.

    Args:
        address: as of `RayActors`.
        num_cpus: of a local cluster; None for all of the machine.

    Raises:
        InputError: if there is no cluster.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    own = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES, "num_cpus": num_cpus}
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="error", **(own if address == LOCAL else {}))
    except (OSError, RuntimeError, ValueError) as error:
        rule = "must be the address of a Ray cluster that runs, or local"
        raise InputError(f"Ray's address {rule}. Received: {shown(address)}: {_last_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fails at once where nothing listens at HOST:PORT; Ray tries for minutes.

    Raises:
        OSError: if so.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()


def _last_line(error: Exception) -> str:
    """What Ray says at the end of its long messages."""
    return str(error).strip().rpartition("\n")[2].strip()
