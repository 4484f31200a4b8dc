"""Draws Grafana's dashboards: what they show stands here, their JSON is written by `make docs`.

Most of it is a list of panels, a query each: the three dashboards stand together, for they speak of the same metrics.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

DASHBOARDS = Path(__file__).parent / "dashboards"
_WIDTH, _HEIGHT = 24, 8
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


# 0 until the first.
_LAST_SUCCESS = "notification_maintenance_last_success_timestamp_seconds"


class Panel(msgspec.Struct, frozen=True):
    """One diagram: its queries, each with the legend of its lines, in one unit (Grafana's ids)."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    says: str = ""
    kind: str = "timeseries"


class Row(msgspec.Struct, frozen=True):
    """Panels side by side under a heading."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str, where: str = "") -> str:
    """Events a second of a counter, summed over the processes."""
    return f"sum by ({by}) (rate({metric}{where}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str, where: str = "") -> str:
    """What so many of the values stay below, over all processes."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', f'{by}, le', where)})"


def quantiles(histogram: str, by: str, where: str = "") -> tuple[tuple[str, str], ...]:
    """Draw the median and the slow ones."""
    name = f"{{{{{by}}}}}"
    return tuple((quantile(share, histogram, by, where), f"{name} p{share * 100:g}") for share in (0.5, 0.99))


def whole(gauge: str, by: str = "") -> str:
    """Read a gauge of the whole installation: each process of `maintain` shows the same."""
    return f"max by ({by}) ({gauge})" if by else f"max({gauge})"


SERVICE = (
    Row(
        "Is it well?",
        (
            Panel("Processes by role", "short", (("sum by (role) (notification_role)", "{{role}}"),), kind="stat"),
            Panel(
                "Processes that are not ready", "short", (("sum(1 - notification_ready)", "not ready"),), kind="stat"
            ),
            Panel(
                "In a provider's hands within 10 s (last hour)",
                "percentunit",
                (("1 - notification:handovers_missed:ratio_rate1h", "objective: 99.9 %"),),
                kind="stat",
            ),
            Panel(
                "Of three days' error budget is used",
                "percentunit",
                (("notification:handovers_missed:ratio_rate3d / 0.001", "used"),),
                "Above 100 % the objective is missed over these days.",
                kind="stat",
            ),
            Panel(
                "Alerts", "short", (('sum by (alertname) (ALERTS{alertstate="firing"})', "{{alertname}}"),), kind="stat"
            ),
            Panel("Releases", "short", (("count by (version) (notification_build_info)", "{{version}}"),), kind="stat"),
        ),
    ),
    Row(
        "The objective",
        (
            Panel(
                "Until a provider has it",
                "s",
                quantiles("notification_handover_seconds", "channel"),
                "From when it could be sent: what is paused or not yet wanted does not count.",
            ),
            Panel(
                "Later than 10 s",
                "percentunit",
                (
                    (
                        "1 - "
                        + rate("notification_handover_seconds_bucket", "channel, lane", '{le="10.0"}')
                        + " / "
                        + rate("notification_handover_seconds_count", "channel, lane"),
                        "{{channel}} {{lane}}",
                    ),
                ),
            ),
            Panel(
                "Burn rate of the error budget",
                "short",
                tuple(
                    (f"notification:handovers_missed:ratio_rate{window} / 0.001", window)
                    for window in ("5m", "1h", "6h", "3d")
                ),
                "1 uses a month's budget up in a month; an alert comes at 14.4 over an hour.",
            ),
        ),
    ),
    Row(
        "Messages in",
        (
            Panel(
                "Messages by result",
                "cps",
                ((rate("notification_ingestion_messages_total", "result"), "{{result}}"),),
            ),
            Panel(
                "Until a batch is on disk",
                "s",
                (
                    (quantile(0.5, "notification_ingestion_seconds", "job"), "p50"),
                    (quantile(0.99, "notification_ingestion_seconds", "job"), "p99"),
                ),
            ),
            Panel(
                "Waiting in the broker, and in our hands",
                "short",
                (
                    (whole("notification_ingestion_queue_ready", "queue"), "{{queue}} ready"),
                    ("sum by (queue) (notification_ingestion_queue_unacked)", "{{queue}} unacked"),
                ),
            ),
            Panel("Dead letters", "short", ((whole("notification_dead_letters_waiting"), "waiting"),)),
        ),
    ),
    Row(
        "What is due",
        (
            Panel(
                "The oldest that is due",
                "s",
                ((whole("notification_agenda_oldest_due_seconds", "channel, lane"), "{{channel}} {{lane}}"),),
            ),
            Panel(
                "Due, and in hand",
                "short",
                (
                    (whole("notification_agenda_due", "channel, lane"), "{{channel}} {{lane}} due"),
                    (whole("notification_agenda_claimed", "channel, lane"), "{{channel}} {{lane}} in hand"),
                ),
            ),
            Panel(
                "Scheduled",
                "short",
                ((whole("notification_agenda_rows", "channel, lane"), "{{channel}} {{lane}}"),),
            ),
            Panel(
                "What waits for a person",
                "short",
                (
                    (whole("notification_agenda_held"), "held after a doubt"),
                    (
                        whole("notification_paused", "type, channel, provider"),
                        "paused: {{type}} {{channel}} {{provider}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "What becomes of it",
        (
            Panel(
                "Attempts by outcome",
                "cps",
                ((rate("notification_dispatch_attempts_total", "channel, outcome"), "{{channel}} {{outcome}}"),),
            ),
            Panel(
                "Ended without being taken",
                "cps",
                (
                    (
                        rate("notification_dispatch_ended_total", "channel, status, reason"),
                        "{{channel}} {{status}} {{reason}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Database and clock",
        (
            Panel("Time with the database", "s", quantiles("notification_database_seconds", "operation")),
            Panel(
                "Connections of the pools",
                "short",
                (("sum by (state) (notification_database_pool)", "{{state}}"),),
            ),
            Panel(
                "How old the gauges are, and how far clocks are off",
                "s",
                (
                    ("time() - max(notification_gauges_refreshed_timestamp_seconds)", "gauges"),
                    ("max by (instance) (notification_clock_skew_seconds)", "clock of {{instance}}"),
                ),
            ),
        ),
    ),
    Row(
        "Jobs of the clock",
        (
            Panel("Weeks made ahead", "short", ((whole("notification_database_weeks_ahead"), "weeks"),)),
            Panel(
                "Since they last came to their end",
                "s",
                (
                    (
                        f"time() - ({whole(_LAST_SUCCESS, 'exported_job')} > 0)",
                        "{{exported_job}}",
                    ),
                ),
            ),
        ),
    ),
)


PROVIDERS = (
    Row(
        "Are they called?",
        (
            Panel(
                "Breaker",
                "short",
                ((whole("notification_provider_breaker_open", "provider"), "{{provider}}"),),
                "1 while calls are stopped because they failed.",
            ),
            Panel(
                "Not to be called for",
                "s",
                ((whole("notification_provider_shut_seconds", "provider"), "{{provider}}"),),
            ),
            Panel(
                "Of the rate is used",
                "percentunit",
                (("notification:provider_rate_used:ratio_rate1m", "{{provider}}"),),
            ),
            Panel(
                "Requests a second, and how many there may be",
                "reqps",
                (
                    (rate("notification_provider_requests_total", "provider", '{operation="send"}'), "{{provider}}"),
                    ("max by (provider) (notification_provider_rate_limit)", "{{provider}} at most"),
                ),
            ),
        ),
    ),
    Row(
        "What they answer",
        (
            Panel(
                "Requests by result",
                "reqps",
                (
                    (
                        rate("notification_provider_requests_total", "provider, operation, result"),
                        "{{provider}} {{operation}} {{result}}",
                    ),
                ),
            ),
            Panel(
                "Not taken",
                "percentunit",
                (
                    (
                        rate("notification_dispatch_attempts_total", "provider", '{outcome!="accepted"}')
                        + " / "
                        + rate("notification_dispatch_attempts_total", "provider"),
                        "{{provider}}",
                    ),
                ),
            ),
            Panel("Answer time", "s", quantiles("notification_dispatch_seconds", "provider")),
            Panel(
                "Faults of ours",
                "short",
                (
                    (
                        "sum by (provider, code) (increase(notification_provider_faults_total[$__rate_interval]))",
                        "{{provider}} {{code}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Other ways",
        (
            Panel(
                "Failovers",
                "cps",
                ((rate("notification_dispatch_failovers_total", "channel, provider"), "{{channel}} by {{provider}}"),),
            ),
            Panel(
                "Fallbacks",
                "cps",
                ((rate("notification_fallbacks_total", "channel, to"), "{{channel}} to {{to}}"),),
            ),
            Panel(
                "Questions",
                "cps",
                ((rate("notification_inquiries_total", "provider, result"), "{{provider}} {{result}}"),),
                "About messages of which nothing was reported.",
            ),
        ),
    ),
    Row(
        "What they report",
        (
            Panel(
                "Reports by kind",
                "cps",
                ((rate("notification_reports_total", "provider, kind"), "{{provider}} {{kind}}"),),
            ),
            Panel(
                "Bounces and complaints among what is reported",
                "percentunit",
                (
                    (
                        rate("notification_reports_total", "provider", '{kind=~"bounced|complained"}')
                        + " / "
                        + rate("notification_dispatch_attempts_total", "provider", '{outcome="accepted"}'),
                        "{{provider}}",
                    ),
                ),
                "SES reviews an account from 5 % bounces or 0.1 % complaints on.",
            ),
            Panel(
                "Reports that match nothing, and callbacks that were refused",
                "short",
                (
                    (whole("notification_reports_unmatched"), "unmatched"),
                    (
                        "sum by (provider) (increase(notification_reports_refused_total[$__rate_interval]))",
                        "{{provider}} refused",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "What they cost",
        (
            Panel(
                "Cost of an hour, by the price list",
                "short",
                (
                    (
                        "sum by (channel, currency) (rate(notification_provider_cost_total[$__rate_interval])) * 3600",
                        "{{channel}} {{currency}}",
                    ),
                ),
            ),
            Panel(
                "Of the daily caps is spent",
                "percentunit",
                ((whole("notification_spend_ratio", "channel, country"), "{{channel}} {{country}}"),),
            ),
        ),
    ),
)

PROJECTIONS = (
    Row(
        "Views",
        (
            Panel("Behind the log", "s", ((whole("notification_projection_lag_seconds", "view"), "{{view}}"),)),
            Panel(
                "Positions not folded", "short", ((whole("notification_projection_lag_events", "view"), "{{view}}"),)
            ),
            Panel("Streams left out", "short", ((whole("notification_projection_parked", "view"), "{{view}}"),)),
        ),
    ),
    Row(
        "Status messages",
        (
            Panel("The first that is not published waits", "s", ((whole("notification_outbox_age_seconds"), "age"),)),
            Panel("Positions not published", "short", ((whole("notification_outbox_depth"), "depth"),)),
            Panel(
                "Published",
                "cps",
                ((rate("notification_outbox_published_total", "type, result"), "{{type}} {{result}}"),),
            ),
            Panel(
                "Nobody listened, or none could be made",
                "short",
                (
                    (whole("notification_outbox_unrouted"), "unrouted"),
                    (whole("notification_outbox_parked"), "streams left out"),
                ),
            ),
        ),
    ),
)

_ALL: dict[str, tuple[str, tuple[Row, ...]]] = {
    "service": ("Notifications: service", SERVICE),
    "providers": ("Notifications: providers", PROVIDERS),
    "projections": ("Notifications: projections", PROJECTIONS),
}


def dashboards() -> Iterator[tuple[Path, str]]:
    """Yield each dashboard's file and what stands in it."""
    for name, (title, rows) in _ALL.items():
        yield DASHBOARDS / f"{name}.json", json.dumps(_dashboard(name, title, rows), indent=1) + "\n"


def _dashboard(name: str, title: str, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "uid": f"notification-{name}",
        "title": title,
        "tags": ["notification-ledger"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [{"id": number, **panel} for number, panel in enumerate(_laid_out(rows), start=1)],
    }


def _laid_out(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Lay the rows below each other; the panels of one share its width."""
    top = 0
    for row in rows:
        yield {"type": "row", "title": row.title, "collapsed": False, "gridPos": _place(0, top, _WIDTH, 1)}
        width = _WIDTH // len(row.panels)
        for number, panel in enumerate(row.panels):
            yield {**_drawn(panel), "gridPos": _place(number * width, top + 1, width, _HEIGHT)}
        top += 1 + _HEIGHT


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _drawn(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _DATASOURCE, "expr": expr, "legendFormat": legend}
            for number, (expr, legend) in enumerate(panel.queries)
        ],
    }


def main() -> None:
    """Write the files."""
    for path, text in dashboards():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
