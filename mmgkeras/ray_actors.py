"""Workers of a Ray cluster: actors, each with the work in it, that are given one thing after another.

Owns Ray. The machines of a cluster share their folders, by the same names: what is read and written is the work's.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

from mmgkeras import __version__
from mmgkeras.errors import InputError, extra_needed, shown
from mmgkeras.processes import in_order, keep_freed_memory
from mmgkeras.progress import Track

_In = TypeVar("_In")
_Out = TypeVar("_Out")
LOCAL: Final = "local"
"""The address of a cluster that is started on this machine, and ends with the work."""
_TRIES: Final = 3
"""How often an item is begun again whose actor died."""
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
            actor = ray.remote(_Actor).options(num_cpus=1, num_gpus=min(num_gpus, 1), max_concurrency=num_threads)
            told = {"folder": Path.cwd(), "version": __version__, "has_gpu": bool(num_gpus)}
            make = partial(actor.remote, ray.put(work), **told)
            pool = _ActorPool(make, num_actors=num_actors, at_once=num_threads + _WAITING)
            num_waiting = 2 * num_actors * (num_threads + _WAITING)
            try:
                yield from in_order(pool, work, items, num_waiting=num_waiting, label=label, track=track)
            finally:
                pool.shutdown()


@dataclass(slots=True)
class _Task:
    """An item, what is promised of it, and how many actors died of it."""

    item: Any
    future: Future[Any] = field(default_factory=Future)
    deaths: int = 0


class _ActorPool(Executor):
    """Actors that hold the work, each with a thread here that gives it items, and gives it up when it dies.

    An actor for which the cluster has no room gets no item, so that no item waits for it.
    """

    def __init__(self, make: Callable[[], Any], *, num_actors: int, at_once: int) -> None:
        """Starts the actors; each has `at_once` items."""
        self._make, self._at_once = make, at_once
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._is_shut = False
        self._actors = [make() for _ in range(num_actors)]
        self._threads = [
            threading.Thread(target=self._serve, args=(place,), daemon=True) for place in range(num_actors)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ARG002
        """The future of an item; `fn` is what the actors hold."""
        task = _Task(*args)
        self._tasks.put(task)
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Ends the actors, whatever they do; waits for the threads alone."""
        import ray

        self._is_shut = True
        for actor in self._actors:
            self._tasks.put(None)
            ray.kill(actor)
        for thread in self._threads if wait else ():
            thread.join(_ANSWER_S)

    def _serve(self, place: int) -> None:
        """Gives an actor item after item until the pool is shut."""
        import ray

        running: dict[Any, _Task] = {}
        self._await_actor(place)
        while not self._is_shut:
            while len(running) < self._at_once and (task := self._next(may_wait=not running)):
                running[self._actors[place].do.remote(task.item)] = task
            if not running:
                return
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            try:
                result = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                running.pop(done).future.set_exception(error.cause or error)
            except ray.exceptions.RayError as error:
                self._give_up(place, running, error)
                running = {}
            else:
                running.pop(done).future.set_result(result)

    def _next(self, *, may_wait: bool) -> _Task | None:
        try:
            return self._tasks.get(block=may_wait)
        except Empty:
            return None

    def _await_actor(self, place: int) -> None:
        """Returns when an actor has begun, or cannot begin, of which its first item will tell."""
        import ray

        with suppress(ray.exceptions.RayError):
            ray.get(self._actors[place].begin.remote())

    def _give_up(self, place: int, running: Mapping[Any, _Task], error: Exception) -> None:
        """Replaces a dead actor; its items are for any other to do again."""
        import ray

        if self._is_shut:
            return
        ray.kill(self._actors[place])  # it may be out of reach only
        for task in running.values():
            task.deaths += 1
            if task.deaths > _TRIES:
                task.future.set_exception(BrokenExecutor(_last_line(error)))
            else:
                self._tasks.put(task)
        self._actors[place] = self._make()
        self._await_actor(place)


class _Actor(Generic[_In, _Out]):
    """The work, in a process of its own on one of the machines."""

    def __init__(self, work: Callable[[_In], _Out], *, folder: Path, version: str, has_gpu: bool) -> None:
        self._work, self._folder, self._version = work, folder, version
        keep_freed_memory()
        if not has_gpu:
            os.putenv("TF_NUM_INTRAOP_THREADS", "1")  # it has one core, of which Ray tells OpenMP alone

    def begin(self) -> None:
        """Nothing but an answer."""

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
def connected(address: str, **resources: int) -> Iterator[None]:
    """With a connection to the cluster, which ends with the block if it was made for it.

    Args:
        address: as of `RayActors`.
        resources: `num_cpus` and `num_gpus` of a local cluster, where these are not those of the machine.

    Raises:
        InputError: if there is no cluster.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    own = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES, **resources}
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="error", **(own if address == LOCAL else {}))
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        rule, reason = "must be the address of a Ray cluster that runs, or local", str(error).partition("\n")[0]
        raise InputError(f"Ray's address {rule}. Received: {shown(address)}: {reason}") from error
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
