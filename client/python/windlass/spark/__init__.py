"""A session in the style of Spark's, for code that was written for it: each operation is SQL, and runs when its rows are wanted.

    from windlass.spark import SparkSession
    from windlass.spark import functions as F

    spark = SparkSession.builder.getOrCreate()
    flights = spark.table("flights")
    flights.filter(flights.dest == "MIA").groupBy("origin").agg(F.avg("delay").alias("delay")).orderBy(F.desc("delay")).show()

Only what means the same as in Spark is here, and what is missing says so. For the rest there is ``spark.sql()``, in the SQL of Windlass.
"""

from ._rows import Row
from .column import Column
from .dataframe import DataFrame
from .group import GroupedData
from .session import SparkSession
from .types import StructField, StructType
from .window import Window

__all__ = ["Column", "DataFrame", "GroupedData", "Row", "SparkSession", "StructField", "StructType", "Window"]
