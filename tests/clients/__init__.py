"""Unmodified Kafka clients, each at one version, as programs in their own languages.

`PROGRAM BOOTSTRAP` reads a request a line from standard input, and writes events, a JSON object a line, of which the
last is `{"done": true}` or `{"error": text}`. Bytes are in base64, offsets by partition. `do` names the operation:

    create     topic, partitions
    describe   topic → {"partitions": number}
    delete     topic
    delete_records topic, before: those below these offsets
    produce    topic, codec, idempotent, records: each {key, value, timestamp, headers: [[name, value]]}
    flood      topic, codec, idempotent, in_flight → {"acknowledged": number} …, {"sent": number}
               values 0, 1, 2 … into partition 0 until the request `stop` comes, of which that many may be in flight
    consume    topic, from, to (exclusive) → {"record": …} …; without a group, if the client can
    offsets    topic, partitions, times → {"earliest": offsets, "latest": offsets}, {"time": time, "offsets": offsets} …
    group      topic, group → {"record": …} …, {"not_committed": text}
               until `stop` comes; commits first, and then tells what it has committed
"""
