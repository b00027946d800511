"""What the models see: a row of a flight and the weather known before it goes in, a row of numbers comes out.

`features` runs in training and in serving, the same code with the same learned states, one row at a time: no row may depend on
another. The states are steps fitted on the training months alone, so nothing about a later flight leaks into an earlier one.
"""

import polars as pl

import mlops_local as mlops

ZONE = "America/New_York"
CATEGORIES = ["carrier", "origin"]
WEATHER = [
    "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib",
    "precip_6h", "visib_6h", "pressure_6h",
]  # fmt: skip
PRIOR = 200  # flights of an average airport that a share is mixed with: a rare destination stays close to the mean


@mlops.step
def codes(train: pl.LazyFrame) -> dict[str, dict[str, int]]:
    """Number the carriers and departure airports seen in training, from 1; what was never seen has no number."""
    seen = train.select(pl.col(CATEGORIES).unique().sort().implode()).collect()
    return {name: {value: number for number, value in enumerate(seen[name][0], start=1)} for name in CATEGORIES}


@mlops.step
def late_share(train: pl.LazyFrame) -> dict[str, dict[str, float]]:
    """How often flights of a destination, and of an hour of the week, came late in training."""
    flown = (
        train.filter(pl.col("arr_delay").is_not_null()).select("dest", week_hour(), late=pl.col("arr_delay") >= 15).collect()
    )
    mean = flown["late"].mean()
    return {name: _shares(flown, name, mean) for name in ("dest", "week_hour")}


def _shares(flown: pl.DataFrame, name: str, mean: float) -> dict[str, float]:
    share = (pl.col("late").sum() + PRIOR * mean) / (pl.len() + PRIOR)
    return {str(value): late for value, late in flown.group_by(name).agg(share).sort(name).iter_rows()}


@mlops.step
def scales(train: pl.LazyFrame) -> dict[str, list[float]]:
    """Mean and spread of each weather column in training."""
    row = train.select(
        *(pl.col(name).cast(pl.Float64).mean().alias(f"{name} mean") for name in WEATHER),
        *(pl.col(name).cast(pl.Float64).std().alias(f"{name} std") for name in WEATHER),
    ).collect()
    return {name: [row[f"{name} mean"][0], row[f"{name} std"][0] or 1.0] for name in WEATHER}


def week_hour() -> pl.Expr:
    """Weekday and hour of the scheduled departure, local time: 517 is Friday at five in the afternoon."""
    weekday = pl.col("time_hour").dt.convert_time_zone(ZONE).dt.weekday().cast(pl.Int32)
    return (weekday * 100 + pl.col("hour")).alias("week_hour")


@mlops.transform
def features(
    rows: pl.LazyFrame,
    codes: dict[str, dict[str, int]],
    late_share: dict[str, dict[str, float]],
    scales: dict[str, list[float]],
) -> pl.LazyFrame:
    """Turn raw rows into numbers. The categories come first: the network gives each an embedding."""

    def learned(column: pl.Expr, table: dict[str, float]) -> pl.Expr:  # what was never seen in training is a gap
        return column.cast(pl.String).replace_strict(list(table), list(table.values()), default=None, return_dtype=pl.Float64)

    def minutes(name: str) -> pl.Expr:  # HHMM to minutes after midnight
        return pl.col(name) // 100 * 60 + pl.col(name) % 100

    categories = [
        *(learned(pl.col(name), codes[name]).alias(name) for name in CATEGORIES),
        pl.col("time_hour").dt.convert_time_zone(ZONE).dt.weekday().alias("weekday"),
    ]
    calendar = [
        (minutes("sched_dep_time") / 1440).alias("departure"),
        (minutes("sched_arr_time") / 1440).alias("arrival"),
        (pl.col("distance") / 1000).alias("distance"),
        learned(pl.col("dest"), late_share["dest"]).alias("dest_late"),
        learned(week_hour(), late_share["week_hour"]).alias("week_hour_late"),
    ]
    weather = [((pl.col(name).cast(pl.Float64) - scales[name][0]) / scales[name][1]).alias(name) for name in WEATHER]
    return rows.select(categories + calendar + weather).cast(pl.Float32)
