"""Real stores and queues, Apache Kafka, and what stands between them and us: each is installed once into the tests'
cache, pinned, and started on a free port of loopback. `python -m servers` installs them, or starts some around a
command."""
