"""The command line: one command for each thing that people do with the service.

Longer than other files because there are many, each of a few lines: what `--help` lists stands here in its order.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click
import msgspec
import psycopg
from click.core import ParameterSource

from handlers.dead_letters import DeadLetters
from handlers.dry_run import of_news
from handlers.spending import describe as describe_caps
from ledger import agenda
from ledger.errors import LedgerError
from ledger.keys import KeyEncryption
from ledger.operations import Paused, Selector
from ledger.values import Channel
from ops import answers, archiving, erasing, process, sandbox
from ops.acting import bulk_actions, cancel_, release_, resend_
from ops.count_commands import costs_, statistics_
from ops.errors import OperationError
from ops.finding_commands import find_
from ops.logs import configure
from ops.migrations import migrate as bring_up_to_date
from ops.rebuild import Rebuilt, RebuiltView, rebuild_agenda, rebuild_view
from ops.recovery import recover
from ops.reloading import aws_file
from ops.roles import ROLES
from ops.routes import reaching
from ops.secrets import SCOPES, secrets_in
from ops.settings import DOTENV, described, files, require
from ops.suppression_commands import suppressions
from ops.template_commands import templates
from ops.terminal import print_answer, settings_named, with_parts
from ops.verify import Checked, verify
from ops.wiring import PROVIDERS, Parts, catalogue_of, pauses_of, prices_of, renderer_of
from projections.views import all_views
from providers.pricing import describe as describe_prices
from templates.catalogue import describe
from templates.declarations import CatalogueError
from templates.envelope import MessageRejectedError, UnknownMessageError
from templates.message_schemas import message_schemas

T = TypeVar("T")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_DATA = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=".data/sandbox",
    envvar="DATA",
    show_default=".data/sandbox",
    help="Where the sandbox keeps its data (environment: DATA).",
)
# The sandbox takes the five ports after its own, too.
_LAST_PORT = 65_530
_SELECTED = (
    click.option("--type", "type_", help="Only this notification of the catalogue."),
    click.option("--channel", type=click.Choice([channel.value for channel in Channel]), help="Only this channel."),
    click.option("--provider", type=click.Choice(sorted(PROVIDERS)), help="Only this provider."),
    click.option("--all", "everything", is_flag=True, help="Everything; then nothing else is named."),
)
# ISO 8601 with an offset: a time without one would be a different moment on each machine.
_TIME = click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"])
_REASON = click.option("--reason", required=True, help="Why; it is recorded.")


class _Commands(click.Group):
    """Lists its commands as they stand here, and turns what cannot be done into one clear line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (OperationError, LedgerError, CatalogueError) as exc:
            raise click.ClickException(str(exc)) from exc
        except psycopg.Error as exc:
            # Its own words name hosts, and may repeat values.
            raise click.ClickException(_database_fault(exc)) from exc


def _database_fault(fault: psycopg.Error) -> str:
    if fault.sqlstate is None and isinstance(fault, psycopg.OperationalError):
        return "the database cannot be reached, or refuses the login: look at its URL in the settings"
    return f"the database refused ({type(fault).__name__}, SQLSTATE {fault.sqlstate or 'none'})"


@click.group(
    cls=_Commands,
    context_settings={"max_content_width": 120},
    epilog="What to do when an alert wakes you: docs/how-to/, by the alert's name in docs/reference/metrics.md.",
)
@click.version_option(package_name="notification-ledger")
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DOTENV,
    show_default=True,
    help="A file of settings; a running sandbox keeps its own in DATA/settings.env.",
)
@click.pass_context
def main(context: click.Context, settings_file: Path) -> None:
    """Tell people once, and keep every step as a fact."""
    named = context.get_parameter_source("settings_file") is not ParameterSource.DEFAULT
    if named and not settings_file.is_file():
        raise click.UsageError(f"there is no file {settings_file}")
    context.obj = settings_file


def _files() -> dict[str, Path]:
    """Return the files that the settings are read from, and that of the AWS SDK's credentials."""
    return files(dotenv=click.get_current_context().find_object(Path)) | aws_file()


@main.command("sandbox")
@_DATA
@click.option(
    "--port",
    type=click.IntRange(1, _LAST_PORT),
    default=8080,
    envvar="PORT",
    show_default="8080",
    help="The port of the API; the five ports after it are taken, too (environment: PORT).",
)
@click.option(
    "--demo",
    type=click.IntRange(min=0),
    default=34,
    envvar="DEMO",
    show_default="34",
    help="How many demo messages it opens with (environment: DEMO).",
)
def sandbox_(data: Path, port: int, demo: int) -> None:
    """Run everything in one process, with an embedded Postgres and providers of our own."""
    sandbox.run(data=data, port=port, demo=demo)


def _add_role(name: str, roles: tuple[str, ...], meaning: str) -> None:
    @main.command(name, help=meaning)
    def run_role() -> None:
        process.run(settings_named(), roles, files=_files())


_MEANINGS = {
    "api": "Serve the HTTP API and take the providers' callbacks.",
    "ingest": "Take messages in from RabbitMQ.",
    "deliver": "Deliver what is due.",
    "project": "Keep the views up to date.",
    "maintain": "Run the clock: partitions, hash chain, archive, unmatched reports, deletion of old working rows.",
}
for _role in ROLES:
    _add_role(_role, (_role,), _MEANINGS[_role])


@main.command("all")
def all_() -> None:
    """Run all roles in one process (`ingest` only where AMQP_URL is set)."""
    settings = settings_named()
    process.run(settings, [role for role in ROLES if role != "ingest" or settings.amqp_url], files=_files())


@main.command()
@click.option("--after-rollout", is_flag=True, help="Also what waits until no process of the release before runs.")
@_JSON
def migrate(*, after_rollout: bool, as_json: bool) -> None:
    """Bring the database's schema up to date. Safe to run from many places at once."""
    settings = settings_named()
    require(settings, ["migrate"])
    keys = settings.encryption_keys()
    applied = asyncio.run(
        bring_up_to_date(
            settings.migration_database_url,
            application_role=settings.application_role,
            archive_role=settings.archive_role,
            installation=settings.installation,
            keys=KeyEncryption(keys),
            identity_key=settings.identity(),
            after_rollout=after_rollout,
        )
    )
    print_answer({"applied": applied}, [f"applied {name}" for name in applied] or ["up to date"], as_json=as_json)


@main.command()
@click.argument("notification", type=click.UUID)
@click.option("--at", type=_TIME, metavar="TIME", help="As it was then, such as 2026-11-23T02:15:00+00:00.")
@click.option("--version", type=click.IntRange(min=1), help="As it was after so many facts.")
@_JSON
def history(notification: UUID, at: datetime | None, version: int | None, *, as_json: bool) -> None:
    """Show every fact of a notification, in order."""
    told = with_parts(
        lambda given: answers.history(
            given.ledger,
            reaching(given.settings, given.ledger),
            notification,
            archive=given.archive,
            at=at,
            version=version,
        )
    )
    print_answer(told.facts, answers.as_lines(told), as_json=as_json)


main.add_command(find_)


@main.command("explain")
@click.argument("notification", type=click.UUID)
@_JSON
def explain_(notification: UUID, *, as_json: bool) -> None:
    """Say why a notification was sent or was not, and what would have had to differ."""
    told = with_parts(
        lambda given: answers.explanation(
            given.ledger, reaching(given.settings, given.ledger), notification, archive=given.archive
        )
    )
    print_answer(told, answers.explanation_lines(told), as_json=as_json)


@main.command("verify")
@_JSON
def verify_(*, as_json: bool) -> None:
    """Compare what is stored with itself: facts with the hash chain, agenda and lists with the facts, the archive.

    Exits with 1 when anything differs, and names what does. It changes nothing, and others may work meanwhile.
    """
    _print_checks(
        with_parts(lambda given: verify(given.ledger.store, given.archive, told=_told_on_the_way)), as_json=as_json
    )


def _print_checks(checks: list[Checked], *, as_json: bool) -> None:
    print_answer(checks, [line for check in checks for line in check.lines()], as_json=as_json)
    if not all(check.is_right for check in checks):
        click.get_current_context().exit(1)


@main.command("rebuild")
@click.argument("view", type=click.Choice(["agenda", *(view.name for view in all_views())]))
@click.option("--dry-run", is_flag=True, help="Say what is not right, and change nothing.")
@_JSON
def rebuild_(view: str, *, dry_run: bool, as_json: bool) -> None:
    """Make anew what is derived from the facts: the agenda, which says what is due, or a view. Others work meanwhile.

    A view is filled beside the one that serves, and then takes its place. Safe to repeat, and to stop anywhere. Exits
    with 1 when something could not be read; the rest is right.
    """
    if view != "agenda" and dry_run:
        _print_checks(
            with_parts(lambda given: verify(given.ledger.store, given.archive, told=_told_on_the_way, only=view)),
            as_json=as_json,
        )
        return
    rebuilt = with_parts(lambda given: _rebuilt(given, view, dry_run=dry_run))
    print_answer(rebuilt, [rebuilt.line], as_json=as_json)
    if not rebuilt.is_whole:
        click.get_current_context().exit(1)


async def _rebuilt(given: Parts, name: str, *, dry_run: bool) -> Rebuilt | RebuiltView:
    if name == "agenda":
        return await rebuild_agenda(given.ledger.store, dry_run=dry_run, told=_told_on_the_way)
    (view,) = (view for view in all_views() if view.name == name)
    return await rebuild_view(given.settings.database_url, view, told=_told_on_the_way)


@main.command("recover")
@click.option(
    "--since",
    type=_TIME,
    metavar="TIME",
    required=True,
    help="The moment that the database was restored to, with its offset: 2026-11-23T02:15:00+00:00.",
)
@click.option(
    "--erasures",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Who was erased, as `erasures --json` has printed it; what lies beside the archive is read anyway.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@_JSON
def recover_(since: datetime, erasures: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Erase again who was erased since a backup that was restored, and put in doubt what may have been sent since.

    Before any role starts on it. Safe to repeat, also when it was killed.
    """
    given = settings_named()
    require(given, ["read"])
    configure("error")
    report = asyncio.run(recover(given, since, erasures=erasures, dry_run=dry_run, told=_told_on_the_way))
    print_answer(report, report.lines(), as_json=as_json)


def _told_on_the_way(line: str) -> None:
    click.echo(line, err=True)


@main.command("erase")
@click.argument("user", required=False)
@click.option("--address", "addresses", multiple=True, help="An address of theirs; without USER, all that is known.")
@_REASON
@_JSON
def erase_(user: str | None, addresses: tuple[str, ...], reason: str, *, as_json: bool) -> None:
    """Forget a person, for good: what is personal of them is readable nowhere from then on. Again is the same as once.

    The reason is kept, so it names nobody.
    """
    told = with_parts(lambda given: erasing.erase(given.ledger, user, addresses, reason=reason))
    print_answer(told, erasing.lines(told), as_json=as_json)


@main.command("erasures")
@_JSON
def erasures_(*, as_json: bool) -> None:
    """List who was erased when last; with --json as `recover` reads it, to be kept apart from backups."""
    found = with_parts(erasing.listed)
    lines = [f"{one.recipient}  {one.erased_at:%Y-%m-%d %H:%M:%S}  {one.reason}" for one in found]
    print_answer(found, lines, as_json=as_json)


@main.command("archive")
@click.option("--week", help="Only this one, such as 2026w30.")
@click.option("--dry-run", is_flag=True, help="Only say of each week what keeps it in the database.")
@_JSON
def archive_(week: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Move old weeks to ARCHIVE_URL now, as `maintain` does every hour. Safe to run twice, and to stop anywhere."""
    told = with_parts(lambda given: archiving.plan(given) if dry_run else archiving.move(given, week))
    shown = [one for one in told if week in {None, one.week}]
    print_answer(shown, [one.line for one in shown], as_json=as_json)


@main.command("held")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@_JSON
def held_(limit: int, *, as_json: bool) -> None:
    """List what may have been sent and waits for a person to decide, the longest waiting first."""

    async def listed(given: Parts) -> list[agenda.Held]:
        async with given.ledger.store.connection() as connection:
            return await agenda.held(connection, limit=limit)

    found = with_parts(listed)
    lines = [f"{one.notification}  {one.channel}  held since {one.since:%Y-%m-%d %H:%M:%S}" for one in found]
    print_answer([msgspec.structs.asdict(one) for one in found], lines, as_json=as_json)


for _command in (cancel_, release_, resend_, bulk_actions):
    main.add_command(_command)


def _selecting(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_SELECTED):
        command = option(command)
    return command


@main.command()
@_selecting
@_REASON
def pause(type_: str | None, channel: str | None, provider: str | None, reason: str, *, everything: bool) -> None:
    """Stop sending what has all that is named; when it returns, no attempt of it begins any more."""
    selector = _selector(type_, channel, provider, everything=everything)
    begun = with_parts(lambda given: pauses_of(given).begin(selector, by="cli", reason=reason))
    click.echo(f"{'paused' if begun.is_new else 'paused already'} {_told(begun.pause)}")


@main.command()
@_selecting
@_REASON
def resume(type_: str | None, channel: str | None, provider: str | None, reason: str, *, everything: bool) -> None:
    """End the pause of exactly what is named; other pauses stay."""
    selector = _selector(type_, channel, provider, everything=everything)
    ended = with_parts(lambda given: pauses_of(given).end_selected(selector, by="cli", reason=reason))
    click.echo(f"resumed {_told(ended)}")


@main.command("pauses")
@_JSON
def pauses_(*, as_json: bool) -> None:
    """List what is paused, the longest first."""
    found = with_parts(lambda given: pauses_of(given).listed())
    print_answer([msgspec.structs.asdict(one) for one in found], [_told(one) for one in found], as_json=as_json)


def _selector(type_: str | None, channel: str | None, provider: str | None, *, everything: bool) -> Selector:
    named = type_ or channel or provider
    if bool(named) == everything:
        raise click.UsageError("name a type, a channel or a provider, or else say --all")
    return Selector(type=type_, channel=Channel(channel) if channel else None, provider=provider)


def _told(paused: Paused) -> str:
    named = [f"{name}={value}" for name in ("type", "channel", "provider") if (value := getattr(paused, name))]
    return f"{' '.join(named) or 'all'}  since {paused.recorded_at:%Y-%m-%d %H:%M:%S}  by {paused.by}: {paused.reason}"


@main.group("dead-letters")
def dead_letters() -> None:
    """Messages that were refused: look at them, take them in again, or let them be."""


@dead_letters.command("list")
@click.option("--state", type=click.Choice(["waiting", "replayed", "discarded"]), default="waiting", show_default=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@_JSON
def list_(state: str, limit: int, *, as_json: bool) -> None:
    """List them, newest first."""
    letters = with_parts(lambda given: given.set_aside.listed(state=state, limit=limit))
    lines = [f"{one.key}  {one.received_at:%Y-%m-%d %H:%M:%S}  {one.reason}  {one.type or '?'}" for one in letters]
    print_answer([answers.of_letter(one) for one in letters], lines, as_json=as_json)


@dead_letters.command()
@click.argument("key", callback=lambda _ctx, _param, value: _key(value))
@_JSON
def show(key: bytes, *, as_json: bool) -> None:
    """Show one with every fault, without its body."""
    letter = with_parts(lambda given: given.set_aside.shown(key))
    if letter is None:
        raise OperationError("there is no such dead letter")
    told = answers.of_letter(letter)
    print_answer(told, [f"{name}: {value}" for name, value in told.items()], as_json=as_json)


@dead_letters.command()
@click.argument("key", callback=lambda _ctx, _param, value: _key(value))
@_REASON
@_JSON
def replay(key: bytes, reason: str, *, as_json: bool) -> None:
    """Take one in again, as if it had just come. Twice is the same as once."""
    result = with_parts(lambda given: DeadLetters(given.set_aside, given.take_in).replay(key, by="cli", reason=reason))
    told = answers.of_replay(result)
    print_answer(told, [f"{name}: {value}" for name, value in told.items()], as_json=as_json)


@dead_letters.command()
@click.argument("key", callback=lambda _ctx, _param, value: _key(value))
@_REASON
def discard(key: bytes, reason: str) -> None:
    """Let one be; it stays listed as discarded until it is deleted."""
    with_parts(lambda given: DeadLetters(given.set_aside, given.take_in).discard(key, by="cli", reason=reason))
    click.echo("discarded")


@main.group()
def catalogue() -> None:
    """The catalogue: which message makes which notifications."""


@catalogue.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
def check(file: Path | None) -> None:
    """Check a catalogue, ours by default, with its templates, and say what each message makes."""
    given = settings_named()
    for line in describe(catalogue_of(given, file), channels=given.served()):
        click.echo(line)


@main.command("prices")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
def prices_(file: Path | None) -> None:
    """Check a price list (that of PRICES, else the one that is shipped) against SPEND_CAPS, and say what both say."""
    given = settings_named()
    prices = prices_of(msgspec.structs.replace(given, prices=str(file)) if file else given)
    for line in (*describe_prices(prices), *describe_caps(given.caps())):
        click.echo(line)


@catalogue.command("try")
@click.argument("file", type=click.File("rb"))
@_JSON
def try_(file: Any, *, as_json: bool) -> None:
    """Read one message from a file and show what it would make and say, or tell of a person. Needs no database."""
    try:
        given = settings_named()
        known = catalogue_of(given)
        envelope, _ = known.read(file.read(), now=answers.local_now(), channels=given.served())
        asked = known.asks(envelope, channels=given.served())
    except (MessageRejectedError, UnknownMessageError) as exc:
        raise OperationError(str(exc)) from exc
    if not isinstance(asked, list):
        told = of_news(asked)
        print_answer([told], [answers.as_words(told)], as_json=as_json)
        return
    renderer = renderer_of(given, known)
    tried = [answers.of_wanted(one, renderer) for one in asked]
    print_answer(tried, [line for one in tried for line in answers.wanted_lines(one)], as_json=as_json)


@catalogue.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder: one file TYPE.schema.json each, in place of printing them.",
)
def schemas(out: Path | None) -> None:
    """Print the JSON Schema (2020-12) of each message that the catalogue knows, by its type."""
    given = settings_named()
    known = message_schemas(catalogue_of(given), channels=given.served())
    if out is None:
        print_answer(known, [], as_json=True)
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, schema in known.items():
        file = out / f"{name}.schema.json"
        file.write_bytes(msgspec.json.format(msgspec.json.encode(schema)) + b"\n")
        click.echo(str(file))


main.add_command(statistics_)
main.add_command(costs_)
main.add_command(templates)
main.add_command(suppressions)


@main.command()
@_DATA
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="Only these scopes.")
@click.option("--subject", default="sandbox", show_default=True)
def token(data: Path, scopes: tuple[str, ...], subject: str) -> None:
    """Mint a token of the sandbox. Production has no signing key."""
    if not (data / "secrets.json").exists():
        raise OperationError(f"there is no sandbox in {data}: run `notification-ledger sandbox` once")
    click.echo(secrets_in(data).token(subject=subject, now=time.time(), scopes=scopes or SCOPES))


@main.command()
@_JSON
def settings(*, as_json: bool) -> None:
    """List every setting, its default and its meaning."""
    known = described()
    lines = [
        f"{one.name}{f' (default {one.default})' if one.default else ''}{' (secret)' if one.secret else ''}"
        f"\n    {one.meaning}" + (f"\n    Required by: {', '.join(one.required_by)}" if one.required_by else "")
        for one in known
    ]
    named = "Each may also be given as NAME_FILE, a file that holds the value; a secret is read again when it changes."
    print_answer(known, [*lines, named], as_json=as_json)


def _key(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as exc:
        raise click.BadParameter("a key is 64 hexadecimal digits") from exc


if __name__ == "__main__":
    main()
