"""Documents say what is: every path, error, command and setting that they name exists, and each that exists is named."""

import ast
import itertools
import json
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from rlaas_ray import errors
from rlaas_ray.cli import main as cli
from rlaas_ray.cli.keys import _ROLES
from rlaas_ray.envs import registry
from rlaas_ray.envs.stream.document import DagSpec
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.optimize import algorithms, mixing, problems
from rlaas_ray.policies import inspection
from rlaas_ray.settings import Settings
from rlaas_ray.specs import document
from rlaas_ray.specs.endpoint import EndpointSpec
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.rollout import RolloutSpec
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.specs.tune import TuneSpec

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
ABSENT = (None, getattr(click.core, "UNSET", None))  # how click's parser says that nothing was given
# WEAKNESSES names what there is not.
SHOWING = [*(p for p in PAGES if p.name != "WEAKNESSES.md"), *sorted((ROOT / "examples").rglob("*.py"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def rows(page: str, header: str) -> dict[str, list[str]]:
    """The table of `page` that begins with `header`: first cell without backticks -> the other cells."""
    lines = (DOCS / page).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(header))
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        first, *others = (cell.strip() for cell in line.strip()[1:-1].split("|"))
        assert first not in found, f"{first} twice"
        found[first.strip("`")] = others
    return found


# --- the tree ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_named_in_documents_exist(page: Path) -> None:
    tops = {p.name for p in ROOT.iterdir()} - {"out"}
    named = re.findall(r"`([\w.-]+(?:/[\w.{},*-]+)+/?)`", page.read_text())
    ids = registry.ours()
    paths = [n for n in named if n.split("/")[0] in tops and n not in ids and "*" not in n and "{" not in n]
    assert [p for p in paths if not (ROOT / p).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_index_names_every_page() -> None:
    named = set(re.findall(r"\]\(([\w.-]+\.md)\)", (DOCS / "README.md").read_text()))
    assert named == {p.name for p in DOCS.glob("*.md")} - {"README.md"}


def test_architecture_is_at_most_two_pages() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().split()) <= 1600


# --- lists that the code has, too -------------------------------------------------------------------------------------


def test_every_error_has_its_row_and_every_row_its_error() -> None:
    text = (DOCS / "problems.md").read_text()
    told = {
        (a, b, int(c), int(d))
        for a, b, c, d in re.findall(r"^\| `([a-z-]+)` \| `(\w+)` \| (\d+) \| (\d+) \|", text, re.MULTILINE)
    }
    assert told == {(slug, e.__name__, e.status, e.exit_code) for slug, e in errors.all_errors().items()}


@pytest.mark.parametrize(
    ("page", "spec"),
    [
        ("training.md", TrainSpec),
        ("tuning.md", TuneSpec),
        ("optimization.md", OptimizeSpec),
        ("rollouts.md", RolloutSpec),
        ("serving.md", EndpointSpec),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_fields_of_a_spec_and_their_defaults_are_told(page: str, spec: type[document.Document]) -> None:
    told = rows(page, "| field | default | meaning |")
    assert list(told) == list(spec.model_fields)
    for name, field in spec.model_fields.items():
        default = told[name][0]
        if field.is_required():
            assert default == "required", name
            continue
        value = field.get_default(call_default_factory=True)
        if value is None:
            assert default in {"none", "preset"}, name
            continue
        value = value.to_json() if isinstance(value, document.Document) else value
        assert json.loads(default.strip("`")) == json.loads(json.dumps(value)), name


def test_settings_are_told() -> None:
    told = rows("operations.md", "| variable | default | |")
    assert set(told) == {f"RLAAS_{name.upper()}" for name in Settings.model_fields}


def test_roles_are_told() -> None:
    assert list(rows("operations.md", "| role | may |")) == _ROLES


def test_metrics_are_told_with_their_labels() -> None:
    told = rows("serving.md", "| metric | labels | counts |")
    known = {}
    for metric in vars(ServingMetrics()).values():
        if hasattr(metric, "_labelnames"):
            known[metric._name + ("_total" if metric._type == "counter" else "")] = ", ".join(metric._labelnames)
    assert {name: cells[0] for name, cells in told.items()} == known


def test_files_of_a_bundle_are_told() -> None:
    assert list(rows("bundles.md", "| file | holds |")) == list(inspection.LIMITS)


def test_every_name_that_a_bundle_is_refused_by_is_told() -> None:
    told = set(rows("bundles.md", "| name | |"))
    raised = set()
    for module in (ROOT / "rlaas_ray" / "policies").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"Tampered", "_refused"} and node.args:
                raised |= _texts(node.args[0])
    assert told == raised


def _texts(subject: ast.expr) -> set[str]:
    match subject:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.JoinedStr(values=parts):
            return {"".join(p.value if isinstance(p, ast.Constant) else p.value.id.upper() for p in parts)}
        case ast.IfExp(body=yes, orelse=no):
            return _texts(yes) | _texts(no)
        case _:
            return set()


def test_algorithms_of_a_search_are_told_with_their_options() -> None:
    told = rows("optimization-algorithms.md", "| algorithm | what it is | its own options |")
    assert set(told) == set(algorithms.NAMES)
    common = rows("optimization-algorithms.md", "| option of `algorithm_config` |")
    shared = {name.strip("` ") for cell in common for name in cell.split(",")}
    assert shared == set(mixing.OPTIONS)
    for name, (_, own) in told.items():
        assert set(re.findall(r"`(\w+)`", own)) == set(algorithms.options_of(name)) - shared, name


def test_problems_of_a_search_are_told() -> None:
    told = rows("optimization-algorithms.md", "| problem | it is | `problem_config` |")
    assert {name.strip("` ") for cell in told for name in cell.split(",")} == set(problems.KNOWN)


def test_the_table_of_the_ran_card_is_the_reference_file() -> None:
    reference = json.loads((ROOT / "rlaas_ray/envs/ran/REFERENCE.json").read_text())["modes"]
    told = rows("ran.md", "| policy | normal | emergency | energy_saving | revenue |")
    modes = ("normal", "emergency", "energy_saving", "revenue")
    known = {
        name: [f"{reference[mode]['policies'][name]['mean']:.1f}" for mode in modes]
        for name in reference["normal"]["policies"]
    }
    assert told == known


def test_baselines_of_the_ran_card_are_those_of_the_code() -> None:
    text = (DOCS / "ran.md").read_text().partition("## Baselines")[2].partition("\n## ")[0].partition("\n| policy")[0]
    known = registry.baselines_of("rlaas/RanControl-v1")
    assert [name for name in [*known.POLICIES, *known.REFERENCES] if f"`{name}`" not in text] == []


# --- commands ---------------------------------------------------------------------------------------------------------


def test_every_command_has_its_heading() -> None:
    assert re.findall(r"^## rlaas (\S+)$", (DOCS / "cli.md").read_text(), re.MULTILINE) == list(cli.COMMANDS)


def test_every_subcommand_is_shown() -> None:
    text = (DOCS / "cli.md").read_text()
    wanted = [
        f"rlaas {name} {verb}"
        for name, command in cli.table().items()
        if isinstance(command, click.Group)
        for verb in command.commands
    ]
    assert [command for command in wanted if f"`{command}" not in text] == []


def blocks(page: Path) -> list[str]:
    """The lines of code blocks (fenced or indented) and of docstrings, with continued lines joined."""
    text = page.read_text().replace("\\\n", " ")
    if page.suffix == ".py":
        return [line.strip() for line in (ast.get_docstring(ast.parse(text)) or "").splitlines()]
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [
        line.strip() for block in [*fenced, *re.findall(r"^ {4}.*$", text, re.MULTILINE)] for line in block.splitlines()
    ]


def spans(page: Path) -> list[str]:
    """Commands in the running text: they may be names alone, without what they need."""
    return [] if page.suffix == ".py" else re.findall(r"`(rlaas [^`\n]+)`", page.read_text())


def parse(words: list[str], *, whole: bool) -> None:
    """Each command and option exists; in a `whole` one nothing that it needs is missing. Runs nothing, opens nothing."""
    context = click.Context(cli.rlaas, info_name="rlaas")
    command: click.Command = cli.rlaas
    while True:
        if not words and (isinstance(command, click.Group) or not whole):
            return
        values, left, _ = command.make_parser(context).parse_args(list(words))
        for parameter in command.get_params(context):
            value = values.get(parameter.name)
            if isinstance(parameter.type, click.Choice) and value not in ABSENT:
                for one in value if isinstance(value, list) else [value]:
                    parameter.type.convert(one, parameter, context)
            if whole and parameter.required:
                assert value not in ABSENT, f"{command.name} needs {parameter.name}"
        if not isinstance(command, click.Group):
            assert left == [], f"{command.name} does not take {left}"
            return
        if not left:
            return  # options of the group alone, as in `rlaas --help`
        name, *words = left
        found = command.get_command(context, name)
        assert found is not None, f"no command {name} in {command.name}"
        command, context = found, click.Context(found, parent=context, **found.context_settings)


def words_of(line: str) -> list[str] | None:
    """The words of an `rlaas` command, from its name to where the shell does something else; None for other lines."""
    line = re.sub(r"\[[A-Z][^\]]*\]|\.\.\.", "", line.removeprefix("$ "))
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return None
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if not words or words[0] not in {"rlaas", ".venv/bin/rlaas"}:
        return None
    ends = (i for i, word in enumerate(words) if word in {"|", "&&", "||", ">", "2>", "&"} or word.endswith(";"))
    return words[1 : next(ends, None)]


@pytest.mark.parametrize("page", SHOWING, ids=name_of)
def test_every_command_that_is_shown_would_be_understood(page: Path) -> None:
    wrong = []
    for lines, whole in ((blocks(page), True), (spans(page), False)):
        for line in lines:
            words = words_of(line)
            if words is None or "COMMAND" in words:
                continue
            try:
                parse(words, whole=whole)
            except (AssertionError, click.UsageError) as error:
                wrong.append(f"{line}: {getattr(error, 'message', error)}")
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    ["rlaas train --evn x", "rlaas rolout start", "rlaas serve", "rlaas models export a --to pickle", "rlaas down now"],
)
def test_a_command_that_does_not_exist_would_be_found(line: str) -> None:
    words = words_of(line)
    assert words is not None
    with pytest.raises((AssertionError, click.UsageError)):
        parse(words, whole=True)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_specs_that_are_shown_are_specs(page: Path) -> None:
    kinds = {"Train": TrainSpec, "Tune": TuneSpec, "Endpoint": EndpointSpec, "Rollout": RolloutSpec, "Dag": DagSpec}
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        body = yaml.safe_load(block)
        document.parse(kinds[body["kind"]], body)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_in_commands_are_fields(page: Path) -> None:
    """`--set a.b=1` names a field of the spec of its command."""
    kinds = {"train": TrainSpec, "tune": TuneSpec, "serve": EndpointSpec, "rollout": RolloutSpec}
    wrong = []
    for line in [*blocks(page), *spans(page)]:
        words = words_of(line) or []
        for flag, pair in itertools.pairwise(words):
            if flag == "--set" and "=" in pair and words[0] in kinds and pair != "FIELD=VALUE":
                fields = kinds[words[0]].model_fields
                if pair.partition("=")[0].split(".")[0] not in fields:
                    wrong.append(line)
    assert wrong == []
