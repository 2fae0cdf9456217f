"""Every command explains itself, with an example, and a mistake is told in one line."""

import re

import click
import pytest
from click.testing import CliRunner
from mmgkeras.cli import COMMANDS, main

ORDER = [
    "phantom",
    "import",
    "check",
    "prepare",
    "split",
    "fit",
    "crossval",
    "evaluate",
    "overlay",
    "report",
    "threshold",
]


def command_names(command: click.Command, *, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of a command and of all commands below it."""
    words = (*prefix, str(command.name))
    if not isinstance(command, click.Group):
        return [words]
    return [name for child in command.commands.values() for name in command_names(child, prefix=words)]


NAMES = [name for command in COMMANDS for name in command_names(command)]


def test_the_group_lists_its_commands_in_the_order_of_the_work() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    listed = re.findall(r"^  ([a-z][a-z-]*)  ", result.output.partition("Commands:")[2], flags=re.MULTILINE)
    assert listed == [command.name for command in COMMANDS]
    assert [name for name in ORDER if name in listed] == [name for name in listed if name in ORDER]
    assert "never for diagnosis" in " ".join(result.output.split())


def test_every_command_fits_its_line_in_80_columns() -> None:
    lines = CliRunner().invoke(main, ["--help"], terminal_width=80).output.partition("Commands:")[2].splitlines()
    assert [line for line in lines if line.endswith("...")] == []
    assert len(lines) == len(COMMANDS) + 1


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_every_command_has_an_example_that_names_it(name: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*name, "--help"])
    assert result.exit_code == 0
    examples = result.output.partition("Example")[2]
    assert f"mmgkeras {' '.join(name)}" in examples


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_every_option_is_explained(name: tuple[str, ...]) -> None:
    command: click.Command = main
    for word in name:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    silent = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]
    assert silent == []


def test_wrong_usage_exits_with_two() -> None:
    assert CliRunner().invoke(main, ["prepare", "--no-such-option"]).exit_code == 2
