"""The adapter of dbt for Windlass."""

from dbt.adapters.base import AdapterPlugin
from dbt.adapters.windlass.connections import WindlassConnectionManager, WindlassCredentials
from dbt.adapters.windlass.impl import WindlassAdapter
from dbt.include import windlass

__all__ = ["Plugin", "WindlassAdapter", "WindlassConnectionManager", "WindlassCredentials"]

Plugin = AdapterPlugin(
    adapter=WindlassAdapter,  # type: ignore[arg-type]
    credentials=WindlassCredentials,
    include_path=windlass.PACKAGE_PATH,
)
