"""Asks real programs for their pages and writes them to exposition/tests/data/pages, with ORIGIN.md: see scripts/expositions.

Programs come from scripts/peers and scripts/python, from Debian, Maven, PyPI and the Go module proxy; what is missing
is skipped, aloud, and its pages stay as they are. Names and paths of the machine are replaced by others of the same
length, and pages cut at the borders of families.

PROMFERRY_BINARY  the collector of which the pages are; target/debug/promferry if not set
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGES = ROOT / "exposition/tests/data/pages"
PEERS = ROOT / ".cache/peers"

# Bytes that a page may have, and a family in one that has more.
PAGE_LIMIT = {"prom": 40_000, "om": 40_000, "om2": 24_000, "pb": 24_000}
FAMILY_LIMIT = 5_000

ACCEPT = {
    "prom": "text/plain;version=0.0.4",
    "om": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
    "pb": "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
}
CONTENT = {"prom": "text/plain", "om": "application/openmetrics-text", "pb": "application/vnd.google.protobuf"}


class Missing(Exception):
    """A program that is not there."""


class Origin:
    """Where a program's pages come from."""

    def __init__(self, program, version, licence, command):
        self.row = [program, version, licence, command]


# Sources: each returns an Origin and its pages by extension.


def node_exporter():
    program = PEERS / "debian/prometheus-node-exporter/usr/bin/prometheus-node-exporter"
    port = free_port()
    with running([there(program), f"--web.listen-address=127.0.0.1:{port}"]):
        pages = {kind: get(port, kind) for kind in ["prom", "pb"]}
    return Origin("node_exporter", version([program, "--version"], r"version ([\d.]+)"), "Apache-2.0", "node_exporter"), pages


def prometheus():
    program = PEERS / "prometheus"
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "prometheus.yml")
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: itself, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
        )
        command = [there(program), f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder}/data"]
        with running(command):
            get(port, "prom")
            for _ in range(5):
                get(port, "prom", "/api/v1/query?query=sum(rate(up[1m]))", any_type=True)
                time.sleep(1)
            pages = {kind: get(port, kind) for kind in ["prom", "pb"]}
    return Origin("Prometheus", version([program, "--version"], r"version ([\d.]+)"), "Apache-2.0", "prometheus, scraping itself"), pages


def etcd():
    program = PEERS / "etcd"
    with running_etcd() as port:
        pages = {kind: get(port, kind) for kind in ["prom", "pb"]}
    return Origin("etcd", version([there(program), "--version"], r"Version: ([\d.]+)"), "Apache-2.0", "etcd"), pages


def kube_apiserver():
    program = PEERS / "kube-apiserver"
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, running_etcd() as etcd_port:
        Path(folder, "tokens.csv").write_text('token,admin,admin,"system:masters"\n')
        subprocess.run(["openssl", "genrsa", "-out", f"{folder}/key", "2048"], check=True, capture_output=True)
        command = [
            there(program), f"--etcd-servers=http://127.0.0.1:{etcd_port}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            f"--secure-port={port}", f"--cert-dir={folder}/certificates", "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC", f"--token-auth-file={folder}/tokens.csv",
            "--service-account-issuer=https://issuer.test", f"--service-account-key-file={folder}/key",
            f"--service-account-signing-key-file={folder}/key",
        ]
        with running(command):
            headers = {"Authorization": "Bearer token"}
            get(port, "prom", "/readyz", any_type=True, tls=True, headers=headers, patience=150)
            get(port, "prom", "/api/v1/pods", any_type=True, tls=True, headers=headers)
            pages = {kind: get(port, kind, tls=True, headers=headers) for kind in ["prom", "pb"]}
    return Origin("kube-apiserver", version([program, "--version"], r"v([\d.]+)"), "Apache-2.0", "kube-apiserver, with etcd"), pages


def jvm():
    wanted = "1.0.1"
    jar = Path.home() / f".m2/repository/io/prometheus/jmx/jmx_prometheus_javaagent/{wanted}/jmx_prometheus_javaagent-{wanted}.jar"
    for tool in ["java", "javac", "mvn"]:
        if not shutil.which(tool):
            raise Missing(tool)
    if not jar.is_file():
        run(["mvn", "-q", "dependency:get", f"-Dartifact=io.prometheus.jmx:jmx_prometheus_javaagent:{wanted}"])
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "jmx.yml").write_text('rules: [{pattern: ".*"}]\n')
        run(["javac", "-d", folder, HERE / "Idle.java"])
        with running(["java", f"-javaagent:{jar}=127.0.0.1:{port}:{folder}/jmx.yml", "-cp", folder, "Idle"]):
            pages = {kind: get(port, kind) for kind in ["prom", "om", "pb"]}
    java = version(["java", "-version"], r'version "([^"]+)"')
    return Origin("JMX exporter", f"{wanted}, Java {java}", "Apache-2.0", "java -javaagent:jmx_prometheus_javaagent.jar"), pages


def cadvisor():
    module = "github.com/google/cadvisor@v0.49.1"
    folder = go_module(module)
    page = Path(folder, "metrics/testdata/prometheus_metrics").read_bytes()
    return Origin("cadvisor", "0.49.1", "Apache-2.0", "its own `metrics/testdata/prometheus_metrics`"), {"prom": page}


def prometheus_testdata():
    folder = Path(go_module("github.com/prometheus/prometheus@v0.316.0"), "model/textparse/testdata")
    pages = {
        "prom": (folder / "alltypes.237mfs.prom.txt").read_bytes(),
        "om": (folder / "alltypes.5mfs.om.txt").read_bytes(),
        "om2": (folder / "alltypes.om2.txt").read_bytes(),
    }
    return Origin("Prometheus' test data", "3.16.0", "Apache-2.0", "its own `model/textparse/testdata/alltypes.*`"), pages


def histograms_testdata():
    folder = Path(go_module("github.com/prometheus/prometheus@v0.316.0"), "model/textparse/testdata")
    pages = {"om": (folder / "histograms.bench.om.txt").read_bytes(), "om2": (folder / "histograms.bench.om2.txt").read_bytes()}
    return Origin("Prometheus' test data", "3.16.0", "Apache-2.0", "its own `model/textparse/testdata/histograms.bench.*`"), pages


def kube_state_metrics():
    sys.path.insert(0, str(HERE))
    import kube_state

    pages = {"prom": kube_state.page(False), "om": kube_state.page(True)}
    return Origin("kube-state-metrics", "rendered after the documentation of 2.x", "our own", "`scripts/expositions.d/kube_state.py`"), pages


def ray():
    python = there(ROOT / ".cache/ray/bin/python")
    port, gcs, dashboard = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as folder:
        environment = {"HOME": folder, "PATH": os.environ["PATH"], "RAY_DISABLE_IMPORT_WARNING": "1"}
        command = [
            python, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={gcs}", "--node-ip-address=127.0.0.1",
            f"--metrics-export-port={port}", f"--dashboard-port={dashboard}", "--num-cpus=1", "--object-store-memory=80000000",
            "--disable-usage-stats", f"--temp-dir={folder}",
        ]
        with running(command, environment):
            get(port, "prom", patience=120)
            time.sleep(15)
            pages = {"prom": get(port, "prom")}
    return Origin("Ray", version([python, "-m", "ray.scripts.scripts", "--version"], r"version ([\d.]+)"), "Apache-2.0", "ray start --head"), pages


def vmagent():
    program = PEERS / "vmagent"
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "scrape.yml").write_text(f"scrape_configs: [{{job_name: itself, scrape_interval: 1s, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n")
        command = [there(program), f"-httpListenAddr=127.0.0.1:{port}", f"-promscrape.config={folder}/scrape.yml",
                   f"-remoteWrite.url=http://127.0.0.1:{port}/nowhere", f"-remoteWrite.tmpDataPath={folder}/data"]
        with running(command):
            get(port, "prom")
            time.sleep(4)
            pages = {"prom": get(port, "prom")}
    return Origin("vmagent", version([program, "--version"], r"(v1[\d.]+)"), "Apache-2.0", "vmagent, scraping itself"), pages


def otelcol():
    program = PEERS / "otelcol"
    port, scraped = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "otel.yaml")
        config.write_text(json.dumps({
            "receivers": {"prometheus": {"config": {"scrape_configs": [{"job_name": "itself", "scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}}},
            "exporters": {"prometheusremotewrite": {"endpoint": f"http://127.0.0.1:{scraped}/none"}},
            "service": {
                "pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["prometheusremotewrite"]}},
                "telemetry": {"metrics": {"level": "detailed", "readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": port}}}}]}},
            },
        }))
        with running([there(program), f"--config={config}"]):
            get(port, "prom")
            time.sleep(4)
            pages = {kind: get(port, kind) for kind in ["prom", "om", "pb"]}
    return Origin("OpenTelemetry Collector", version([program, "--version"], r"version v?([\d.]+)"), "Apache-2.0", "otelcol, scraping itself"), pages


def promferry():
    program = there(Path(os.environ.get("PROMFERRY_BINARY", ROOT / "target/debug/promferry")))
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "prometheus.yml")
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: itself, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
            f"remote_write: [{{url: 'http://127.0.0.1:{port}/nowhere'}}]\n"
        )
        with running([program, f"--config.file={config}", f"--storage.agent.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]):
            get(port, "prom")
            time.sleep(4)
            pages = {kind: get(port, kind) for kind in ["prom", "om", "pb"]}
    return Origin("Promferry", version([program, "--version"], r"([\d.]+)"), "our own", "promferry, scraping itself"), pages


def python_client():
    wanted = "0.26.0"
    with tempfile.TemporaryDirectory() as folder:
        run([sys.executable, "-m", "venv", folder])
        run([f"{folder}/bin/pip", "install", "--quiet", "--disable-pip-version-check", f"prometheus-client=={wanted}"])
        pages = {
            kind: subprocess.run([f"{folder}/bin/python", HERE / "client.py", name], check=True, capture_output=True).stdout
            for kind, name in [("prom", "text"), ("om", "openmetrics")]
        }
    return Origin("prometheus-client for Python", wanted, "Apache-2.0 and BSD-2-Clause", "`scripts/expositions.d/client.py`"), pages


SOURCES = {
    "cadvisor": cadvisor,
    "etcd": etcd,
    "histograms_testdata": histograms_testdata,
    "jvm": jvm,
    "kube_apiserver": kube_apiserver,
    "kube_state_metrics": kube_state_metrics,
    "node_exporter": node_exporter,
    "otelcol": otelcol,
    "prometheus": prometheus,
    "prometheus_testdata": prometheus_testdata,
    "promferry": promferry,
    "python_client": python_client,
    "ray": ray,
    "vmagent": vmagent,
}


# Running and asking.


def there(program):
    if not Path(program).is_file():
        raise Missing(program)
    return program


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"{' '.join(str(word) for word in command)}: {(done.stderr or done.stdout)[-600:]}")


def go_module(module):
    if not shutil.which("go"):
        raise Missing("go")
    done = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"{module}: {done.stdout[-300:]}{done.stderr[-300:]}")
    return json.loads(done.stdout)["Dir"]


class running:
    """A program in a session of its own, ended with all that it has started."""

    def __init__(self, command, environment=None):
        self.command = [str(word) for word in command]
        self.environment = environment

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log, env=self.environment, start_new_session=True)
        return self

    def __exit__(self, kind, error, _):
        # The session's processes, which may have groups of their own.
        members = session_of(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        for member in members | session_of(self.process.pid):
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        if error is not None and kind is not Missing:
            self.log.seek(0)
            sys.stderr.write(self.log.read().decode(errors="replace")[-2000:])


def session_of(leader):
    members = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == leader:
                    members.add(int(entry.name))
            except ProcessLookupError:
                pass
    return members


class running_etcd(running):
    def __init__(self):
        self.port, peer = free_port(), free_port()
        self.folder = tempfile.TemporaryDirectory()
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{peer}"
        super().__init__([
            there(PEERS / "etcd"), "--name=test", f"--data-dir={self.folder.name}", "--unsafe-no-fsync",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=test={peer}",
        ])

    def __enter__(self):
        super().__enter__()
        get(self.port, "prom", "/health", any_type=True)
        return self.port

    def __exit__(self, *error):
        super().__exit__(*error)
        self.folder.cleanup()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def get(port, kind, path="/metrics", any_type=False, tls=False, headers=None, patience=40):
    """The page of this kind; None, aloud, where the program answers with another one."""
    deadline = time.monotonic() + patience
    while True:
        try:
            if tls:
                connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=ssl._create_unverified_context())
            else:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", path, headers={"Accept": "*/*" if any_type else ACCEPT[kind], **(headers or {})})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == 200:
                break
            said = f"status {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            said = str(error)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} on port {port}: {said}")
        time.sleep(0.3)
    content_type = answer.getheader("Content-Type", "")
    if not any_type and not content_type.startswith(CONTENT[kind]):
        print(f"expositions: it answers {content_type} where {kind} is wanted")
        return None
    return body


def version(command, pattern):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    found = re.search(pattern, done.stdout + done.stderr)
    return found.group(1) if found else "unknown"


# What is kept of a page.


def keep(page, kind):
    page = anonymous(page)
    if kind == "pb":
        return cut_protobuf(page, PAGE_LIMIT[kind])
    ended = page.endswith(b"# EOF\n")
    families = text_families(page.removesuffix(b"# EOF\n"))
    if len(page) > PAGE_LIMIT[kind]:
        families = [cut_text(family) for family in families]
    return b"".join(spread(families, PAGE_LIMIT[kind])) + (b"# EOF\n" if ended else b"")


def anonymous(page):
    """Names and paths of this machine, replaced by others of the same length, as protobuf counts bytes."""
    words = {socket.gethostname(): "node-1.example", str(ROOT): "/srv/exporter", os.path.realpath(ROOT): "/srv/exporter", str(Path.home()): "/home/app"}
    words |= {Path(os.path.realpath(PEERS)).as_posix(): "/usr/local/libexec"}
    words |= {os.uname().release: "6.1.0-13-cloud-amd64"}
    for word, other in sorted(words.items(), key=lambda pair: -len(pair[0])):
        length = len(word)
        replacement = (other + "x" * length)[:length].encode()
        # A short name could stand for anything else: only where it is a whole word.
        page = re.sub(rb"(?<![\w.])" + re.escape(word.encode()) + rb"(?![\w.])", replacement, page)
    page = re.sub(rb"/tmp/\w+", lambda found: b"/tmp/" + b"x" * (len(found.group()) - 5), page)
    for address in local_addresses():
        page = page.replace(address.encode(), ("10.0.0.1" + "0" * 40)[: len(address)].encode())
    return page


def local_addresses():
    done = subprocess.run(["hostname", "-I"], capture_output=True, text=True)
    return [address for address in done.stdout.split() if not address.startswith("127.")]


def text_families(page):
    families, name = [], None
    for line in page.splitlines(keepends=True):
        found = re.match(rb'# (?:HELP|TYPE|UNIT) ("(?:[^"\\]|\\.)*"|\S+)', line)
        # Without metadata, each name is taken for a family.
        found = found or (not families or not families[-1][0].startswith(b"#")) and re.match(rb"(\w+)", line)
        if not families or found and found.group(1) != name:
            name = found.group(1) if found else None
            families.append([])
        families[-1].append(line)
    return [b"".join(lines) for lines in families]


def cut_text(family):
    """Its first metrics: a histogram's or summary's ends before its next one's first bucket."""
    kept = 0
    lines = family.splitlines(keepends=True)
    length = 0
    for at, line in enumerate(lines):
        length += len(line)
        if length > FAMILY_LIMIT:
            break
        following = lines[at + 1] if at + 1 < len(lines) else b""
        inside = re.match(rb"\w+(_bucket|_sum)\b", line) or (re.match(rb"\w+_count\b", line) and re.match(rb"\w+_(created|sum)\b", following))
        if not inside and not (b"quantile=" in line):
            kept = at + 1
    return b"".join(lines[: kept or len(lines)])


def spread(families, limit):
    """As many families as fit, taken evenly from all of the page."""
    total = sum(map(len, families))
    kept, had, spent = [], 0, 0
    for family in families:
        had += len(family)
        # What is kept may be no more than this share of what has gone by.
        if total <= limit or spent + len(family) <= had * limit / total:
            kept.append(family)
            spent += len(family)
    return kept


def cut_protobuf(page, limit):
    families, at = [], 0
    while at < len(page):
        length, start = varint(page, at)
        family = page[start : start + length]
        families.append(cut_family(family) if len(page) > limit else family)
        at = start + length
    return b"".join(spread([encoded(len(family)) + family for family in families], limit))


def cut_family(family):
    """With its first metrics, which are field 4."""
    kept, at = b"", 0
    while at < len(family):
        tag, value = varint(family, at)
        length, start = varint(family, value)
        end = start + length if tag & 7 == 2 else start
        if tag != 4 << 3 | 2 or len(kept) + end - at <= FAMILY_LIMIT or not re.search(rb"\x22", kept):
            kept += family[at:end]
        at = end
    return kept


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def encoded(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


INTRODUCTION = """\
Pages of real programs, asked for by `scripts/expositions collect`, which replaces names and paths of the machine and
cuts the pages at the borders of families. `.prom` is the text format, `.om` OpenMetrics 1.0, `.om2` OpenMetrics 2.0,
`.pb` delimited protobuf.

| pages | program | version | licence of the program | how |
|---|---|---|---|---|
"""


def write(name, origin, pages):
    for kind, page in pages.items():
        if page is not None:
            kept = keep(page, kind)
            (PAGES / f"{name}.{kind}").write_bytes(kept)
            print(f"expositions: {name}.{kind}: {len(kept)} of {len(page)} bytes")
    path = PAGES / "ORIGIN.md"
    rows = {}
    if path.exists():
        rows = {line.split("`")[1]: line for line in path.read_text().splitlines() if line.startswith("| `")}
    program, number, licence, command = origin.row
    words, comma, rest = command.partition(",")
    how = command if "`" in command else f"`{words}`{comma}{rest}"
    rows[name] = f"| `{name}` | {program} | {number} | {licence} | {how} |"
    path.write_text(INTRODUCTION + "".join(row + "\n" for _, row in sorted(rows.items())))


def main():
    names = sys.argv[1:] or list(SOURCES)
    unknown = [name for name in names if name not in SOURCES]
    if unknown:
        sys.exit(f"expositions: no source is called {unknown[0]!r}; there are: {' '.join(SOURCES)}")
    PAGES.mkdir(parents=True, exist_ok=True)
    skipped = 0
    for name in names:
        try:
            write(name, *SOURCES[name]())
        except Missing as missing:
            print(f"expositions: SKIPPED {name}: {missing} is missing")
            skipped += 1
    sys.exit(77 if skipped else 0)


main()
