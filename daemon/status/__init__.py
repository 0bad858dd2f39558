"""Status for people: what is shown, how it is written as text, and how it leaves the process.

`codec` turns values into fields and JSON, `values` turns domain values into topics, `outbox` holds
what a slow or absent server has not taken yet. Redis and MQTT share all three.
"""
