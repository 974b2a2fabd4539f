"""The page of docs/ about indices: every scheme as its data say it is."""

from calibration.quantities import CONDITIONS
from gateway.aqi import units
from gateway.aqi.days import LocalDay
from gateway.aqi.kernels import Mean
from gateway.aqi.scheme import EVIDENCE, Above, Keep, Negative, Rounding, Scheme, Table, families, load, names

POLLUTANTS = {"pm25": "PM2.5", "pm10": "PM10", "no2": "NO2", "o3": "O3", "so2": "SO2", "co": "CO"}
LANGUAGE_TITLES = {"en": "English", "zh-Hant": "中文", "es": "español", "vi": "Tiếng Việt"}

ABOVE = {
    Above.CONTINUE: "the line of the last band goes on", Above.HOLD: "the last index is held", Above.NONE: "none",
}  # fmt: skip
KEEP = {
    Keep.TRUNCATE: "truncated to {0} decimals", Keep.HALF_UP: "rounded to {0} decimals, halves up",
    Keep.HALF_EVEN: "rounded to {0} decimals, halves to even",
    Keep.EXACT: "compared as it is; an edge belongs to the band below",
}  # fmt: skip
ROUNDING = {
    Rounding.HALF_UP: "halves up", Rounding.HALF_EVEN: "halves to even", Rounding.CEILING: "up",
}  # fmt: skip

NOWCAST = (
    "12 h weighted by w^i, w the smallest over the largest hour, from 0.5 to 1; 2 of the last 3 hours needed, the "
    "current one may be missing; negative hours are not clipped"
)

HEAD = """# Indices

{note}An air-quality index is a file in `gateway/aqi/schemes/`, checked when it is read. `[derive] schemes` names those
that a gateway derives, `lichen aqi FILE.csv --scheme NAME` applies one to a table of your own, and
`gateway.aqi` has the functions: `scheme.load`, `index.sub_index`, `overall.air_quality_index`, `kernels`, `days`, each
with a twin on bare arrays (`sub_index_nounit`).

| name | index | in force | how well known |
|---|---|---|---|
"""

TEXT = """
How well a table or a date is known: {evidence}. An index that Lichen derives from kits is labelled an equivalent
("PM2.5/NO2 equivalent"), never an official value.

## The table in force then, or one table throughout

A name with a year applies its table to every hour, whatever its date: `us-2024` in a list of schemes shows the past
by today's table. A series applies to each hour the table that was in force then: {series}. Every record names the
table it was made with (`us-2012@1`); `?` after the name says that the date by which it was chosen is unverified. To
have both, name both: `schemes = ["us-2024", "us"]`. After a change of `schemes`, of a file's numbers or of the
correction everything is derived again at the next start; hours whose raw readings are gone are indexed again from
their means.

`us-2024-daily` (also `us-daily`) is the index of local days, from midnight to midnight of the standard time of
`[derive] zone`: one record a day, at its last hour. Schemes without a published rule for days have none.

## Files of your own

A TOML file in the folder `[derive] schemes_dir` is a scheme under its file name; the files that come with Lichen show
the keys. Edges must rise without a gap, units are checked, and an unknown key is refused; an error says the file, the
place and what is wrong. Names stand in {languages}. What a file can say beside the tables below: concentrations
rounded or truncated, bands that share edges (`edges = "shared"`) or have no end (`inf`), indices rounded up
(`rounding = "ceiling"`), pollutants that an index needs (`needs`), a series it belongs to (`family`).
`tests/test_aqi_schemes.py` holds the UK's index, and bands as China's and needs as India's, as such files.

## Means

| kernel | what |
|---|---|
| `nowcast` | US EPA for particles: {nowcast} |
| `tw_mean` | Taiwan for particles: half the mean of 12 h and half that of 4 h; 6 of 12 and 2 of 4 needed |
| `trailing` | mean of the valid hours of the last so many, the hour itself included |

Hours are UTC hours. Days run from midnight to midnight of the site's standard time, never summer time; a leap day is
a day. In a zone of half hours midnight lies within a UTC hour: such days are refused, with the reason. The stream and
a batch use the same functions on arrays, and give the same bits.

## Tables of one's own: `lichen aqi`

Columns are found by their names (`pm25_ugm3`, `PM2.5 (µg/m³)`, `o3_8h_ppb`, `nowcast_pm25`, the names of Taiwan's
`aqx_p_432`), units by the name, a column `units`, or `--unit o3=ppb`; where nothing tells a unit the table's is
assumed and said, or refused if the values cannot be in it. A column that names its averaging time is taken as it is.
One that names none is hours, which are averaged as the scheme does, where times tell hours, and else the mean that
the tables are made for; `--values` decides otherwise. `--daily` makes local days of hours. What served for what and
what is missing stands on standard error, or in the answer of `--json`. Cells of -900 and below, and hours that a
column `qc` calls invalid, are missing.
"""


def page(note: str) -> str:
    """Return the page."""
    schemes = [load(name) for name in names()]
    text = HEAD.format(note=note) + "".join(_summary(scheme) for scheme in schemes)
    series = ", ".join(f"`{name}` ({', '.join(f'`{m}`' for m in members)})" for name, members in families().items())
    evidence = ", ".join(f"{mark} {meaning}" for mark, meaning in EVIDENCE.items())
    text += TEXT.format(series=series, evidence=evidence, languages=", ".join(LANGUAGE_TITLES.values()),
                        nowcast=NOWCAST)  # fmt: skip
    return text + "".join(_scheme(scheme) for scheme in schemes)


def _summary(scheme: Scheme) -> str:
    return f"| `{scheme.name}` | {scheme.titles['en']} | {_validity(scheme)} | {scheme.evidence} |\n"


def _validity(scheme: Scheme) -> str:
    v = scheme.validity
    until = f" to {v.to}" if v.to else ""
    certain = f"; certainly from {v.certain_from}" if v.certain_from else ""
    return f"from {v.start} ({v.evidence}{certain}){until}"


def _scheme(scheme: Scheme) -> str:
    text = f"\n## {scheme.name}: {scheme.titles['en']}\n\n"
    text += f"In force {_validity(scheme)}. Source: {scheme.source}.\n\n"
    text += f"An index that is not whole is rounded {ROUNDING[scheme.rounding]}. "
    text += "A negative concentration gives the index of zero. " if scheme.tables[0].negative is Negative.ZERO else (
        "A negative concentration gives none. ")  # fmt: skip
    text += "A pollutant with several tables takes the largest of its sub-indices."
    if scheme.leading_above >= 0:
        text += f" Up to {scheme.leading_above} no pollutant is named as the leading one."
    if scheme.gas_condition:
        text += (
            f" Gases are converted between mass and mole fraction at {CONDITIONS[scheme.gas_condition].temp_c:g} °C."
        )
    text += "\n\n| table | made for | real-time mean | local day | concentration | above the last band | known |\n"
    text += "|---|---|---|---|---|---|---|\n" + "".join(map(_table, scheme.tables))
    text += "".join(f"\n* `{t.name}`: {t.note}" for t in scheme.tables if t.note)
    text += "\n\n" if any(t.note for t in scheme.tables) else "\n"
    for table in scheme.tables:
        text += f"`{table.name}` [{units.text(table.unit)}]: {_bands(table)}\n\n"
    head = " | ".join(LANGUAGE_TITLES.values())
    text += f"| index | {head} | colour | shape |\n|---|{'---|' * len(LANGUAGE_TITLES)}---|---|\n"
    low = int(min(t.index_low[0] for t in scheme.tables))
    for category in scheme.categories:
        span = f"above {low - 1}" if category.up_to is None else f"{low} to {category.up_to}"
        span = str(low) if category.up_to == low else span
        titles = " | ".join(category.names[language] for language in LANGUAGE_TITLES)
        text += f"| {span} | {titles} | `{category.colour}` | {category.shape} |\n"
        low = (category.up_to or low) + 1
    return text


def _table(t: Table) -> str:
    kept = KEEP[t.keep].format(t.decimals)
    known = t.evidence + (f" to {t.reproduced_to:g} {units.text(t.unit)}" if t.reproduced_to else "")
    cells = (f"`{t.name}`", f"{POLLUTANTS.get(t.pollutant, t.pollutant)}, {_hours(t.averaging_h)}", _mean(t.realtime),
             _day(t.day), kept, ABOVE[t.above] if not t.open_top else "the last band has no end", known)  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def _hours(hours: float) -> str:
    return {8760: "a year", 4380: "six months"}.get(hours, f"{hours:g} h")  # type: ignore[call-overload, no-any-return]


def _mean(mean: Mean | None) -> str:
    if mean is None:
        return "none"
    if mean.kernel != "trailing":
        return f"`{mean.kernel}`"
    return "the hour itself" if mean.window == 1 else f"{mean.window} h, {mean.least} needed"


def _day(day: LocalDay | None) -> str:
    if day is None:
        return "none"
    if day.kernel == "mean":
        return f"mean, {day.least} hours needed"
    if day.hours == 1:
        return f"largest hour, {day.least} needed"
    begins = "begin" if day.label == "start" else "end"
    return (f"largest {day.hours} h mean ({day.least_hours} needed) of those that {begins} in the hours {day.first} to "
            f"{day.last}, {day.least} needed")  # fmt: skip


def _bands(t: Table) -> str:
    said = []
    for i, (low, high, first, last) in enumerate(zip(t.low, t.high, t.index_low, t.index_high, strict=True)):
        edges = [f"{step / 10.0**t.decimals:.{t.decimals}f}" for step in (low, high)]
        above = t.open_top and i == len(t.low) - 1
        span = (
            f"above {edges[0]}"
            if above and t.keep is Keep.EXACT
            else f"from {edges[0]}"
            if above
            else f"{edges[0]}-{edges[1]}"
        )
        said.append(f"{span} → {first}" + (f"-{last}" if last != first else ""))
    return ", ".join(said)
