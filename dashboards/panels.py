"""What all dashboards share: kinds of panels, variables, links to runbooks, and the grid."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from dashboards.queries import quantile

RUNBOOKS: Final = "docs/runbooks"
"""Default of the variable `runbooks`: the URL of the folder of runbooks. The chart's values set the real one."""
TAG: Final = "avatar-agent"
GRID_COLUMNS: Final = 24

COUNT: Final = "short"
SECONDS: Final = "s"
SHARE: Final = "percentunit"
BYTES: Final = "bytes"
PER_MINUTE: Final = "suffix:/min"
PER_SECOND: Final = "suffix:/s"
CORES: Final = "suffix: cores"
TEXT: Final = "string"

GREEN: Final = "green"
YELLOW: Final = "yellow"
RED: Final = "red"
BLUE: Final = "blue"

_SOURCE: Final = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")

Panel = stat.Panel | timeseries.Panel | heatmap.Panel | table.Panel
Panels = Sequence[Panel]
_Kind = TypeVar("_Kind", stat.Panel, timeseries.Panel, heatmap.Panel, table.Panel)
Steps = Sequence[tuple[float, str]]
"""Values from which a colour applies, in ascending order, behind the first colour."""


@dataclass(frozen=True)
class Text:
    """What a reader of a panel needs: which figures are normal, and what to do about others."""

    normal: str
    runbook: str = ""
    """The alert whose runbook helps, without the prefix AvatarAgent."""
    no_runbook: str = ""
    """Why no runbook helps; set exactly one of the two."""

    def __post_init__(self) -> None:
        if bool(self.runbook) == bool(self.no_runbook):
            raise ValueError(f"set either runbook or no_runbook: {self.normal}")

    @property
    def description(self) -> str:
        return f"{self.normal}\n\nNo runbook: {self.no_runbook}" if self.no_runbook else self.normal


@dataclass(frozen=True)
class Series:
    """One query of a panel, and the legend of its series."""

    expression: str
    legend: str = ""


def figure(
    title: str,
    expression: str,
    text: Text,
    *,
    unit: str = COUNT,
    first: str = GREEN,
    steps: Steps = (),
    names: Sequence[tuple[int, str, str]] = (),
    empty: str = "no data",
    decimals: int | None = None,
) -> stat.Panel:
    """Return one big figure on a coloured field. `names` shows a value as a word: (value, word, colour)."""
    panel = (
        _described(stat.Panel(), title, text, unit, 4)
        .with_target(_query(0, Series(expression)).instant())
        .thresholds(_thresholds(first, steps))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .color_mode(common_models.BigValueColorMode.BACKGROUND)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .no_value(empty)
    )
    if names:
        results = {
            f"{value}": models.ValueMappingResult(text=word, color=colour, index=index)
            for index, (value, word, colour) in enumerate(names)
        }
        panel = panel.mappings([models.ValueMap(options=results)])
    return panel if decimals is None else panel.decimals(decimals)


def graph(
    title: str,
    series: Sequence[Series],
    text: Text,
    *,
    unit: str = COUNT,
    first: str = GREEN,
    steps: Steps = (),
    bars: bool = False,
    top: float | None = None,
    width: int = 8,
) -> timeseries.Panel:
    """Return lines over time, or stacked bars. `steps` are drawn as lines across the graph."""
    panel = (
        _described(timeseries.Panel(), title, text, unit, width)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .fill_opacity(60 if bars else 8)
        .line_width(1)
        .show_points(common_models.VisibilityMode.NEVER)
        .min(0)
    )
    if bars:
        stacking = common.StackingConfig().mode(common_models.StackingMode.NORMAL)
        panel = panel.draw_style(common_models.GraphDrawStyle.BARS).stacking(stacking)
    if top is not None:
        panel = panel.axis_soft_max(top)
    if steps:
        style = common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.LINE)
        panel = panel.thresholds(_thresholds(first, steps)).thresholds_style(style)
    for number, one in enumerate(series):
        panel = panel.with_target(_query(number, one).range())
    return panel


def quantiles(series: str, *ranks: float) -> list[Series]:
    """Return a line for each rank of a histogram."""
    return [Series(quantile(rank, series), f"p{rank * 100:g}") for rank in ranks]


def heat(title: str, expression: str, text: Text, *, unit: str = SECONDS, width: int = 8) -> heatmap.Panel:
    """Return a histogram over time. The expression returns its buckets, by `le`."""
    query = _query(0, Series(expression, "{{le}}")).format(prometheus_models.PromQueryFormat.HEATMAP)
    return (
        _described(heatmap.Panel(), title, text, unit, width)
        .with_target(query.range())
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .exponent(0.5)
            .steps(64)
        )
        .hide_legend()
    )


def rows(
    title: str, expression: str, columns: Sequence[str], text: Text, *, value: str = "", width: int = 8
) -> table.Panel:
    """Return a table of the labels `columns`, one row a series; with its value where `value` names that column."""
    hidden = {"Time": True, "__name__": True} | ({} if value else {"Value": True})
    organize: dict[str, object] = {
        "excludeByName": hidden,
        "indexByName": {name: index for index, name in enumerate([*columns, "Value"])},
        "renameByName": {"Value": value} if value else {},
    }
    query = _query(0, Series(expression)).format(prometheus_models.PromQueryFormat.TABLE)
    return (
        _described(table.Panel(), title, text, COUNT if value else TEXT, width)
        .with_target(query.instant())
        .with_transformation(models.DataTransformerConfig(id_val="organize", options=organize))
        .no_value("none")
    )


def build(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[tuple[str, Panels]],
    constants: Sequence[tuple[str, str, str]] = (),
) -> str:
    """Return a dashboard's JSON. Each section has a title and panels, which fill the grid from left to right.

    The first section shows figures and has no heading: a stranger looks there first. `constants` are hidden variables:
    (name, label, value).
    """
    made = (
        dashboard.Dashboard(f"AvatarAgent / {title}")
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("AvatarAgent")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in _variables():
        made = made.with_variable(variable)
    for name, label, value in (("runbooks", "URL of the runbooks", RUNBOOKS), *constants):
        made = made.with_variable(dashboard.ConstantVariable(name).label(label).value(value))
    top, number = 0, 1
    for index, (heading, panels) in enumerate(sections):
        if index:
            row = dashboard.Row(heading).id(number).grid_pos(models.GridPos(h=1, w=GRID_COLUMNS, x=0, y=top))
            made, number, top = made.with_row(row), number + 1, top + 1
        height, left = (8 if index else 4), 0
        for panel in panels:
            width = _width(panel)
            if left + width > GRID_COLUMNS:
                left, top = 0, top + height
            made = made.with_panel(panel.id(number).grid_pos(models.GridPos(h=height, w=width, x=left, y=top)))
            number, left = number + 1, left + width
        top += height
    return json.dumps(made.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _width(panel: Panel) -> int:
    position = panel.build().grid_pos
    assert position is not None, "every kind of panel sets its width"
    return position.w


def _described(panel: _Kind, title: str, text: Text, unit: str, width: int) -> _Kind:
    panel = panel.span(width).title(title).description(text.description).datasource(_SOURCE).unit(unit)
    if not text.runbook:
        return panel
    alert = f"AvatarAgent{text.runbook}"
    url = f"${{runbooks}}/{alert}.md"
    link = dashboard.DashboardLink(f"Runbook: {alert}").type(models.DashboardLinkType.LINK).url(url).target_blank(True)
    return panel.links([link])


def _query(number: int, series: Series) -> prometheus.Dataquery:
    query = prometheus.Dataquery().datasource(_SOURCE).expr(series.expression).ref_id(chr(ord("A") + number))
    return query.legend_format(series.legend) if series.legend else query


def _thresholds(first: str, steps: Steps) -> dashboard.ThresholdsConfig:
    colours = [models.Threshold(color=first), *(models.Threshold(value=value, color=colour) for value, colour in steps)]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(colours)


def _variables() -> list[dashboard.DatasourceVariable | dashboard.QueryVariable]:
    return [
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        _labels("agent_namespace", "Namespace", "label_values(avatar_agent_controller_ready, agent_namespace)"),
        _labels(
            "agent",
            "Agent",
            'label_values(avatar_agent_controller_ready{agent_namespace=~"$agent_namespace"}, agent)',
        ),
    ]


def _labels(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(_SOURCE)
        .query({"query": query, "refId": name})
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(text="All", value="$__all"))
    )
