"""The package as it is met: its public names, its command line, its speed of starting."""

import subprocess
import sys

import pytest

import coterie
from coterie.cli import main

PUBLIC = [
    "BenchRequest",
    "CompareRequest",
    "CoterieError",
    "CutRequest",
    "EvaluateRequest",
    "ExportRequest",
    "HealRequest",
    "InspectRequest",
    "PruneRequest",
    "PushRequest",
    "QuantizeRequest",
    "RepairRequest",
    "ReportRequest",
    "Result",
    "RunsRequest",
    "SparsifyRequest",
    "UserError",
    "ValuesRequest",
    "VerificationError",
    "bench",
    "compare",
    "cut",
    "evaluate",
    "export",
    "heal",
    "inspect",
    "prune",
    "push",
    "quantize",
    "runs",
    "sparsify",
    "values",
]


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_the_public_names_are_these():
    assert coterie.__all__ == PUBLIC
    assert all(getattr(coterie, name) for name in PUBLIC)
    assert coterie.__version__
    with pytest.raises(AttributeError, match="nothing_here"):
        coterie.nothing_here  # noqa: B018


@pytest.mark.parametrize("arguments", [[], ["prune"], ["values"]])
def test_help_teaches_without_importing_torch(arguments):
    code = (
        "import sys; from coterie.cli import main; "
        f"code = main([*{arguments}, '--help']); "
        "sys.exit(code or ('torch' in sys.modules) or ('numpy' in sys.modules))"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert "coterie" in done.stdout
    if arguments:
        assert "Example" in done.stdout and "--json" in done.stdout


def test_without_a_verb_it_shows_its_help(capsys):
    assert main([]) == 0
    assert "prune" in capsys.readouterr().out


def test_the_module_is_the_command():
    assert run("-m", "coterie", "--version").stdout == f"coterie {coterie.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["prune"], "MODEL"),
        (["prume", "reference"], "prume"),
        (["prune", "reference", "--remvoe", "4", "--output", "x"], "--remvoe"),
        (["values", "no/such/folder/here"], "no/such/folder/here"),
        (["values", "nobody/no-such-model"], "nobody/no-such-model"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(arguments, complaint, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err.strip().splitlines()[-1]
    assert "Traceback" not in captured.err


def test_an_unknown_word_is_answered_with_the_nearest_that_is_known(capsys):
    assert main(["prune", "reference", "--remove", "2", "--method", "giuded", "-o", "out"]) == 2
    assert "giuded is unknown (did you mean guided?)" in capsys.readouterr().err


def test_verbose_tells_what_the_package_logs(capsys, monkeypatch):
    import logging

    from coterie.verbs import inspect

    inspected = inspect.inspect
    logger = logging.getLogger("coterie.verbs.inspect")

    def logged(request):
        logger.info("reading %s", request.model)
        return inspected(request)

    monkeypatch.setattr(inspect, "inspect", logged)
    assert main(["inspect", "reference", "--verbose"]) == 0
    assert "coterie.verbs.inspect: reading reference" in capsys.readouterr().err
    assert main(["inspect", "reference"]) == 0
    assert "reading reference" not in capsys.readouterr().err


def test_every_option_is_spelt_once_and_reaches_its_verb():
    from typer.main import get_command

    from coterie.cli import make_app

    commands = get_command(make_app()).commands
    # `coterie.repair` and `coterie.report` are packages: these verbs have requests at the top only.
    assert set(commands) - {"repair", "report"} == set(PUBLIC) & set(commands)
    for command in commands.values():
        names = [name for option in command.params for name in option.opts]
        assert len(names) == len(set(names)) and "--json" in names and "--verbose" in names
        assert all(option.help for option in command.params if option.name != "help")


def test_the_help_of_compare_names_every_method(capsys):
    from coterie.verbs.compare.methods import methods

    assert main(["compare", "--help"]) == 0
    told = capsys.readouterr().out.replace("\n", " ").replace(" ", "")
    assert all(f"{name}," in told or f"{name}." in told for name in methods())
