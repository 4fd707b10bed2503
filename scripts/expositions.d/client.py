"""A program instrumented with the Python client, that prints its page: client.py text | openmetrics."""

import sys

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary, openmetrics
from prometheus_client.core import GaugeHistogramMetricFamily, UnknownMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_exposition


class Collected:
    def collect(self):
        sizes = GaugeHistogramMetricFamily("queued_bytes", "Sizes of what waits now.", labels=["queue"])
        sizes.add_metric(["mail"], [("100.0", 3), ("10000.0", 7), ("+Inf", 9)], 81920.0)
        yield sizes
        unknown = UnknownMetricFamily("build_count", "Of an unknown type.", labels=["branch"])
        unknown.add_metric(["main"], 17)
        yield unknown


registry = CollectorRegistry()
registry.register(Collected())
requests = Counter("http_requests", "Requests, by \"route\" and code.\nOf this process.", ["route", "code"], registry=registry)
seconds = Histogram("http_request_duration", "Time to answer.", ["route"], unit="seconds", registry=registry)
size = Summary("http_response_size", "Sizes of answers.", ["route"], unit="bytes", registry=registry)
for route in ["/", "/users/{id}", "/a \\ b", "/\"quoted\"", "/line\nbreak", "/über"]:
    for number in range(7):
        code = "200" if number % 5 else "500"
        exemplar = {"trace_id": f"4bf92f3577b34da6a3ce929d0e0e47{number:02x}"}
        requests.labels(route, code).inc(1 + number / 4, exemplar=exemplar)
        seconds.labels(route).observe(0.004 * 3**number, exemplar=exemplar)
        size.labels(route).observe(100 * number)
temperature = Gauge("room_temperature", "Degrees.", ["room"], unit="celsius", registry=registry)
temperature.labels("attic").set(-3.5)
temperature.labels("cellar").set(float("nan"))
temperature.labels("sauna").set(float("inf"))
Gauge("huge", "", registry=registry).set(1.7976931348623157e308)
Gauge("tiny", "", registry=registry).set(5e-324)
Info("build", "Of what it is made.", registry=registry).info({"version": "1.2.3", "commit": "0af7651916cd43dd"})
Enum("service_state", "Its state.", states=["starting", "running", "stopped"], registry=registry).state("running")
utf8 = Counter("läufe.gesamt", "A name that must be quoted.", ["art.des.laufs"], registry=registry)
utf8.labels("schnell").inc(3)
if sys.argv[1] == "openmetrics":
    sys.stdout.buffer.write(openmetrics_exposition.generate_latest(registry, escaping="allow-utf-8", version="1.0.0"))
else:
    sys.stdout.buffer.write(generate_latest(registry, escaping="allow-utf-8"))
