"""The options that say who does the work: the processes of this machine, or a Ray cluster."""

import os
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mmgkeras.processes import Processes
    from mmgkeras.ray_actors import RayActors

_F = TypeVar("_F", bound=Callable[..., Any])

_LOCAL_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too: it listens on 127.0.0.1 alone
    "RAY_worker_niceness": "0",  # not 15: its workers are this command's
    "RAY_AUTH_MODE": "token",
}
"""What a Ray that is started on this machine goes by; it reads the environment when it is imported."""

ray_address_option = click.option(
    "--ray-address",
    metavar="ADDRESS",
    help="Of the Ray cluster.  [default: $RAY_ADDRESS, else one that is started on this machine]",
)


def engine_option(command: _F) -> _F:
    """Adds --engine and --ray-address to a command."""
    option = click.option(
        "--engine",
        type=click.Choice(["processes", "ray"]),
        default="processes",
        show_default=True,
        help="Who reads the images: processes of this machine, or a Ray cluster (docs/at-scale.md).",
    )
    return option(ray_address_option(command))


def chosen_workers(engine: str, *, ray_address: str | None) -> "Processes | RayActors":
    """The workers that the options of `engine_option` ask for."""
    if engine == "ray":
        return ray_actors(ray_address)
    refuse_address(ray_address)
    from mmgkeras.processes import Processes

    return Processes(os.cpu_count() or 1)


def refuse_address(ray_address: str | None) -> None:
    """Refuses an address where no Ray is asked for."""
    if ray_address is not None:
        raise click.UsageError("--ray-address needs --engine ray.")


def ray_actors(ray_address: str | None, *, can_use_gpus: bool = False) -> "RayActors":
    """Actors of the cluster at the address, of RAY_ADDRESS, or of one that is started on this machine."""
    address = ray_address or os.environ.get("RAY_ADDRESS")
    if address is None:
        os.environ.update(_LOCAL_RAY)
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else one that stays in the home folder
    from mmgkeras.ray_actors import LOCAL, RayActors

    return RayActors(address or LOCAL, can_use_gpus=can_use_gpus)
