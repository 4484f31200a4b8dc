"""The generated parts of the reference, read off the code: `make docs` writes them into the pages anew.

A part stands between `<!-- made by make docs: name -->` and `<!-- end -->`, in YAML as comments; the text around it is
written by people.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import yaml
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from api.app import ROUTES
from api.auth import PUBLIC, Scope, declared
from api.health import metrics as metrics_route
from api.problems import KINDS
from handlers.metrics import Metrics
from handlers.status_messages import StatusMessage
from ledger import policy
from ledger.mapping import TOPICS
from ledger.notification import Fact, Reported
from ledger.recipient import Contact
from ledger.status import PRECEDENCE, STRENGTH, Evidence, Status
from ops import settings
from ops.cli import main as program
from ops.gauges import Gauges
from ops.reloading import Reloading
from ops.vitals import show_vitals
from templates.catalogue import Catalogue, load, wishes
from templates.declarations import spelled
from templates.entries import Kind
from templates.rules import FAULTS, WARNINGS
from templates.shapes import SCALARS
from tests.docs.pages import DOCS, ROOT

REFERENCE = DOCS / "reference"
RULES = ROOT / "monitoring" / "prometheus" / "rules"
_PART = re.compile(
    r"(?P<head><!-- made by make docs: (?P<name>[\w ]+) -->\n).*?(?P<foot>(?: *# )?<!-- end -->)", re.DOTALL
)
_PROMISE = re.compile(r"def test_((?:i\d\d_)+)(\w+)\(")
_PROMISES = range(1, 28)

Part = Callable[[], Iterable[str]]


def settings_part() -> Iterator[str]:
    rows = [
        (
            f"`{one.name}`{' (secret)' if one.secret else ''}",
            f"`{one.default}`" if one.default else "",
            ", ".join(one.required_by),
            one.meaning,
        )
        for one in settings.described()
    ]
    yield from table(("setting", "default", "required by", "meaning"), rows)


def commands_part() -> Iterator[str]:
    context = click.Context(program, info_name="notification-ledger")
    for name, command in commands(program, context):
        yield from (f"## {name}", "", cell(command.help or ""), "")
        options = [row for parameter in command.params if (row := _option(parameter))]
        if options:
            yield from (*table(("given", "meaning"), options), "")


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Return every command with what is typed to call it, those of groups in their group's place."""
    for name, command in group.commands.items():
        inner = click.Context(command, parent=context, info_name=name)
        if isinstance(command, click.Group):
            yield from commands(command, inner)
        else:
            arguments = [p.make_metavar(inner) for p in command.params if isinstance(p, click.Argument)]
            yield " ".join([inner.command_path.removeprefix("notification-ledger "), *arguments]), command


def _option(parameter: click.Parameter) -> tuple[str, str] | None:
    if not isinstance(parameter, click.Option):
        return None
    default = parameter.show_default if isinstance(parameter.show_default, str) else str(parameter.default or "")
    said = [parameter.help or ""]
    if isinstance(parameter.type, click.Choice):
        said.append(f"One of {', '.join(f'`{choice}`' for choice in parameter.type.choices)}.")
    if parameter.required:
        said.append("Required.")
    elif parameter.show_default and default:
        said.append(f"Default: `{default}`.")
    return f"`{parameter.opts[0]}`", " ".join(part for part in said if part)


def facts_part() -> Iterator[str]:
    for topic, fact in TOPICS.items():
        base = Reported if issubclass(fact, Reported) else Fact
        own = [field for field in msgspec.structs.fields(fact) if field.name not in base.__struct_fields__]
        yield from (f"## {topic}", "", " ".join((inspect.getdoc(fact) or "").split()), "")
        if base is Reported:
            yield from ("A [report](#what-every-report-carries).", "")
        if own:
            yield from (*table(("field", "kind"), [(f"`{field.name}`", kind_of(field)) for field in own]), "")


def common_fields_part() -> Iterator[str]:
    yield from table(("field", "kind"), [(f"`{field.name}`", kind_of(field)) for field in msgspec.structs.fields(Fact)])


def report_fields_part() -> Iterator[str]:
    fields = [field for field in msgspec.structs.fields(Reported) if field.name not in Fact.__struct_fields__]
    yield from table(("field", "kind"), [(f"`{field.name}`", kind_of(field)) for field in fields])


def kind_of(field: msgspec.structs.FieldInfo) -> str:
    """Say what a field holds, in words that are not Python's."""
    kinds = [kind for kind in get_args(field.type) or (field.type,) if kind is not type(None)]
    if field.name == "personal":
        return "sealed: email, phone, name" if Contact in kinds else "sealed: address, name, data"
    if getattr(field.type, "__origin__", None) is tuple:
        return _several(kinds[0])
    if getattr(field.type, "__origin__", None) is dict:
        return "names and numbers" if int in kinds else "names and texts"
    (kind,) = kinds
    words = {"str": "text", "UUID": "id", "datetime": "time", "bytes": "digest", "bool": "true or false"}
    words |= {"int": "number"}
    if issubclass(kind, msgspec.Struct):
        name = f"a record of {_names_in(kind)}"
    else:
        name = words.get(kind.__name__) or f"one of {', '.join(f'`{word.value}`' for word in kind)}"
    return name if field.required else f"{name}, may be absent"


def _several(kind: Any) -> str:
    if kind is str:
        return "texts, may be none"
    if issubclass(kind, msgspec.Struct):
        return f"records of {_names_in(kind)}"
    return f"some of {', '.join(f'`{word}`' for word in kind)}"


def _names_in(record: type[msgspec.Struct]) -> str:
    return ", ".join(f"`{name}`" for name in record.__struct_fields__)


def metrics_part() -> Iterator[str]:
    rows = [
        (f"`{exposed_name(metric)}`", str(metric._type), ", ".join(metric._labelnames), metric._documentation)
        for metric in metrics()
    ]
    yield from table(("metric", "kind", "labels", "meaning"), rows)


def metrics() -> list[MetricWrapperBase]:
    registry = CollectorRegistry()
    Metrics(registry)
    never_read: Any = None
    Gauges(registry, never_read, never_read, never_read)
    show_vitals(registry, (), never_read, never_read, never_read)
    Reloading(settings.Settings(), {}, registry)
    return [metric for metric in registry._collector_to_names if isinstance(metric, MetricWrapperBase)]


def exposed_name(metric: MetricWrapperBase) -> str:
    """Return the name that a scrape shows: a counter's ends in `_total`."""
    return f"{metric._name}_total" if metric._type == "counter" else metric._name


def alerts_part() -> Iterator[str]:
    rows = [
        (f"[{alert['alert']}]({_runbook(alert)})", alert["labels"]["severity"], alert["annotations"]["summary"])
        for alert in alerts()
    ]
    yield from table(("alert", "severity", "what it says"), rows)


def alerts() -> Iterator[dict[str, Any]]:
    for path in sorted(RULES.glob("*.yaml")):
        groups = yaml.safe_load(path.read_text("utf-8"))["groups"]
        yield from (rule for group in groups for rule in group["rules"] if "alert" in rule)


def _runbook(alert: Mapping[str, Any]) -> str:
    """Return the way from the reference to an alert's runbook."""
    return "../" + str(alert["annotations"]["runbook_url"]).partition("/docs/")[2]


def precedence_part() -> Iterator[str]:
    strength = sorted(Evidence, key=lambda evidence: STRENGTH[evidence])
    ranks = sorted(set(PRECEDENCE.values()), reverse=True)
    words = [sorted(word for word, rank in PRECEDENCE.items() if rank == wanted) for wanted in ranks]
    yield f"Within one attempt, the strongest evidence last: {' < '.join(f'`{one.value}`' for one in strength)}."
    yield ""
    yield from table(
        ("rank", "over all attempts and endings, the best for the person first"),
        [(str(number), ", ".join(f"`{word!s}`" for word in rank)) for number, rank in enumerate(words, start=1)],
    )


def routes_part() -> Iterator[str]:
    rows = [row for route in (*ROUTES, metrics_route) for row in _routes(route)]
    yield from table(("route", "scope", "does"), rows)


def _routes(route: HTTPRouteHandler) -> Iterator[tuple[str, str, str]]:
    for path in sorted(route.paths):
        shown = re.sub(r"{(\w+):\w+}", r"{\1}", path)
        scopes = declared(route)
        needed = f"none: {PUBLIC[shown]}" if scopes is None else _needed(scopes)
        methods = ", ".join(sorted(route.http_methods))
        yield f"`{methods} {shown}`", needed, route.summary or "Metrics, on `OPS_PORT` alone"


def _needed(scopes: Iterable[str]) -> str:
    return ", ".join(f"`{scope}`" for scope in sorted(scopes)) or "any: a valid token is enough"


def problems_part() -> Iterator[str]:
    rows = [(f"`{kind.type}`", str(kind.status), kind.title) for kind in KINDS]
    yield from table(("type", "status", "title"), rows)


def scopes_part() -> Iterator[str]:
    yield ", ".join(f"`{scope.value}`" for scope in Scope)


def messages_part() -> Iterator[str]:
    known: Catalogue = load()
    rows = [
        (
            f"`{name}.v{version}`",
            f"`{rule.kind.type}`",
            f"{rule.kind.category}, {rule.kind.lane}, {rule.kind.doubt}",
            ", ".join(channels(rule.kind)),
            "; ".join(wishes(rule.kind)),
            "yes" if rule.kind.template_version else "not yet",
        )
        for (name, version), rules in sorted(known.rules.items())
        for rule in rules
    ]
    yield from table(("message", "notification", "category, lane, doubt", "channels", "bound by", "template"), rows)


def channels(kind: Kind) -> Iterator[str]:
    yield from kind.channels
    if kind.fallback is not None:
        yield f"else {kind.fallback.channel} after {spelled(kind.fallback.after)}"


def shapes_part() -> Iterator[str]:
    yield from table(("shape", "a value of it"), [(f"`{name}`", scalar.expected) for name, scalar in SCALARS.items()])


def faults_part() -> Iterator[str]:
    yield from table(("rule", "the fault"), [(f"`{name}`", meaning) for name, meaning in FAULTS.items()])


def warnings_part() -> Iterator[str]:
    yield from table(("rule", "the warning"), [(f"`{name}`", meaning) for name, meaning in WARNINGS.items()])


def status_messages_part() -> Iterator[str]:
    _, schemas = msgspec.json.schema_components([StatusMessage], ref_template="#/components/schemas/{name}")
    written = yaml.safe_dump(schemas, sort_keys=False, width=120, allow_unicode=True)
    yield from (f"    {line}".rstrip() for line in written.splitlines())


def promise_part(number: int) -> Part:
    def part() -> Iterator[str]:
        held = tests_of_promises().get(number, [])
        if not held:
            yield "Held by: no test that is named after it yet."
            return
        yield f"Held by {len(held)} {'test' if len(held) == 1 else 'tests'}:"
        yield ""
        yield from (f"- {name} (`{path}`)" for path, name in held)

    return part


def tests_of_promises() -> dict[int, list[tuple[str, str]]]:
    """Return (file, sentence) of each test by the promise that its name says it holds."""
    held: dict[int, list[tuple[str, str]]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for ids, sentence in _PROMISE.findall(path.read_text("utf-8")):
            for number in map(int, re.findall(r"\d\d", ids)):
                held.setdefault(number, []).append((path.relative_to(ROOT).as_posix(), sentence.replace("_", " ")))
    return held


def rules_part() -> Iterator[str]:
    rows = (
        (f"`{rule.name}`", inspect.getdoc(rule.look) or "", "no" if rule.is_a_wish else "yes") for rule in policy.RULES
    )
    yield f"Version `{policy.VERSION}`."
    yield ""
    yield from table(("rule", "finds", "for security messages"), rows)


PARTS: Mapping[str, Part] = {
    "rules": rules_part,
    "settings": settings_part,
    "commands": commands_part,
    "facts": facts_part,
    "common fields": common_fields_part,
    "report fields": report_fields_part,
    "metrics": metrics_part,
    "alerts": alerts_part,
    "precedence": precedence_part,
    "routes": routes_part,
    "problems": problems_part,
    "scopes": scopes_part,
    "messages": messages_part,
    "shapes": shapes_part,
    "faults": faults_part,
    "warnings": warnings_part,
    "status messages": status_messages_part,
    **{f"promise I{number}": promise_part(number) for number in _PROMISES},
}
STATUSES = tuple(Status)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell(text) for text in row)} |"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def completed(text: str) -> str:
    """Return a page with its generated parts as the code has them now."""

    def made(found: re.Match[str]) -> str:
        lines = "\n".join(PARTS[found["name"]]()).strip("\n")
        return f"{found['head']}\n{lines}\n\n{found['foot']}"

    return _PART.sub(made, text)


def parts_in(text: str) -> list[str]:
    return [found["name"] for found in _PART.finditer(text)]


def pages() -> list[Path]:
    return [*sorted(REFERENCE.glob("*.md")), REFERENCE / "asyncapi.yaml"]


def main() -> None:
    for page in pages():
        page.write_text(completed(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
