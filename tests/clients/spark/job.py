"""A job of structured streaming: what it does stands in tests/clients/processors.py."""

import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, upper

jars, bootstrap, source, sink, directory = sys.argv[1:]

session = (
    SparkSession.builder.master("local[1]")
    .config("spark.jars", jars)
    .config("spark.ui.enabled", "false")
    .config("spark.driver.memory", "512m")
    .config("spark.local.dir", f"{directory}/scratch")
    .getOrCreate()
)
records = (
    session.readStream.format("kafka")
    .option("kafka.bootstrap.servers", bootstrap)
    .option("subscribe", source)
    .option("startingOffsets", "earliest")
    .load()
)
query = (
    records.select(upper(col("value").cast("string")).alias("value"))
    .writeStream.format("kafka")
    .option("kafka.bootstrap.servers", bootstrap)
    .option("topic", sink)
    .option("checkpointLocation", f"{directory}/checkpoint")
    .start()
)
sys.stdin.read()
query.stop()
session.stop()
