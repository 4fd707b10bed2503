"""Pages as kube-state-metrics 2 renders them, after its documentation (docs/metrics in its repository): families in the
order of its stores, one HELP and one TYPE each, every value as Go's shortest float, labels of objects as label_NAME."""

PODS = 24
PHASES = ["Pending", "Succeeded", "Failed", "Unknown", "Running"]


def page(openmetrics):
    lines = []

    def family(name, kind, text, samples):
        base = name.removesuffix("_info") if openmetrics and kind == "info" else name
        lines.append(f"# HELP {base} {text}")
        lines.append(f"# TYPE {base} {kind if openmetrics or kind != 'info' else 'gauge'}")
        lines.extend(f"{name}{{{','.join(f'{key}={quoted(value)}' for key, value in labels)}}} {number}" for labels, number in samples)

    pods = [pod(number) for number in range(PODS)]
    family("kube_pod_info", "info", "[STABLE] Information about pod.", [
        (uid + [("host_ip", f"10.0.{n}.1"), ("pod_ip", f"10.0.{n}.{17 + n}"), ("node", f"fargate-ip-10-0-{n}-1.eu-west-1.compute.internal"),
                ("created_by_kind", "ReplicaSet"), ("created_by_name", "web-7d4b9c6f5"), ("priority_class", ""), ("host_network", "false")], "1")
        for n, uid in enumerate(pods)])
    family("kube_pod_created", "gauge", "[STABLE] Unix creation timestamp", [(uid, f"1.7{n:02}123456e+09") for n, uid in enumerate(pods)])
    family("kube_pod_start_time", "gauge", "[STABLE] Start time in unix timestamp for a pod.", [(uid, f"1.7{n:02}123462e+09") for n, uid in enumerate(pods)])
    family("kube_pod_labels", "gauge", "[STABLE] Kubernetes labels converted to Prometheus labels.", [
        (uid + [("label_app_kubernetes_io_name", "web"), ("label_note", ["plain", 'say "hi"', "C:\\temp", "two\nlines", "größe", ""][n % 6])], "1")
        for n, uid in enumerate(pods)])
    family("kube_pod_status_phase", "gauge", "[STABLE] The pods current phase.", [
        (uid + [("phase", phase)], str(int(phase == PHASES[n % 5]))) for n, uid in enumerate(pods) for phase in PHASES])
    family("kube_pod_status_reason", "gauge", "The pod status reasons", [
        (uid + [("reason", reason)], "0") for uid in pods[:6] for reason in ["Evicted", "NodeAffinity", "NodeLost", "Shutdown", "UnexpectedAdmissionError"]])
    family("kube_pod_container_resource_requests", "gauge", "The number of requested request resource by a container. It is recommended to use the kube_pod_resource_requests metric exposed by kube-scheduler instead, as it is more precise.", [
        (uid + [("container", "app"), ("node", ""), ("resource", resource), ("unit", unit)], number)
        for uid in pods for resource, unit, number in [("cpu", "core", "0.25"), ("memory", "byte", "5.36870912e+08")]])
    family("kube_pod_container_status_restarts_total", "counter", "[STABLE] The number of container restarts per container.", [
        (uid + [("container", "app")], str(n % 3)) for n, uid in enumerate(pods)])
    if openmetrics:
        # A counter's family has no suffix in OpenMetrics.
        lines[:] = [line.replace("_restarts_total ", "_restarts ", 1) if line.startswith("# ") else line for line in lines]
    family("kube_pod_status_scheduled_time", "gauge", "[STABLE] Unix timestamp when pod moved into scheduled status", [])
    family("kube_node_status_condition", "gauge", "[STABLE] The condition of a cluster node.", [
        ([("node", "node-1"), ("condition", condition), ("status", status)], str(int(status == "true")))
        for condition in ["Ready", "MemoryPressure", "DiskPressure"] for status in ["true", "false", "unknown"]])
    family("kube_horizontalpodautoscaler_spec_target_metric", "gauge", "The metric specifications used by this autoscaler when calculating the desired replica count.", [
        ([("namespace", "shop"), ("horizontalpodautoscaler", "web"), ("metric_name", "cpu"), ("metric_target_type", "utilization")], "+Inf"),
        ([("namespace", "shop"), ("horizontalpodautoscaler", "api"), ("metric_name", "cpu"), ("metric_target_type", "value")], "NaN")])
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def pod(number):
    return [("namespace", "shop"), ("pod", f"web-7d4b9c6f5-{number:05x}"), ("uid", f"0af76519-16cd-43dd-8448-eb211c8031{number:02x}")]


def quoted(value):
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'"{escaped}"'
