#!/usr/bin/env python3
"""botocore (AWS' SDK for Python) as a judge of signatures, and as a signer, over HTTP on loopback.

    botocore_judge.py judge               prints its port; answers 200 to what botocore would have signed the same,
                                          403 with botocore's canonical request to the rest; ends with its input
    botocore_judge.py sign ADDRESS FILE   signs each request of FILE (one JSON object a line), sends it to ADDRESS and
                                          prints what it answered: a status a line

Keys are for tests only and not secret.
"""

import base64
import datetime
import http.client
import json
import re
import socketserver
import sys
import threading
from urllib.parse import quote

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "s/+wJalrXUtnFEMI/K7MDENG"
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), Signature=[0-9a-f]{64}"
)


# botocore reads the time by a function of its module.
TIME = threading.Lock()


class Signer(botocore.auth.SigV4Auth):
    """botocore's signer, which keeps what it signed."""

    def canonical_request(self, request):
        self.canonical = super().canonical_request(request)
        return self.canonical


def signed(method, url, headers, body, region, service, token, time):
    """The request as botocore signs it at that time, and the canonical request it signed."""
    request = AWSRequest(method=method, url=url, data=body)
    for name, value in headers:
        # Adds; a name may come more than once.
        request.headers[name] = value
    signer = Signer(Credentials(ACCESS_KEY, SECRET_KEY, token), service, region)
    with TIME:
        botocore.auth.get_current_datetime = lambda *_, **__: time
        signer.add_auth(request)
    return request, signer.canonical


class Judge(socketserver.StreamRequestHandler):
    """Reads requests itself: http.server changes targets that begin with two slashes."""

    disable_nagle_algorithm = True

    def handle(self):
        while line := self.rfile.readline():
            method, target, _ = line.decode().split(" ")
            headers = []
            while (line := self.rfile.readline().strip(b"\r\n")) != b"":
                name, value = line.decode().split(":", 1)
                headers.append((name.lower(), value.strip(" \t")))
            length = next((int(value) for name, value in headers if name == "content-length"), 0)
            status, text = self.verdict(method, target, headers, self.rfile.read(length))
            content = b"" if method == "HEAD" else text.encode()
            head = f"HTTP/1.1 {status} -\r\ncontent-length: {len(text.encode())}\r\n\r\n"
            self.wfile.write(head.encode() + content)

    def verdict(self, method, target, headers, body):
        def only(name):
            values = [value for given, value in headers if given == name]
            return values[0] if len(values) == 1 else None

        given = only("authorization") or ""
        parts = AUTHORIZATION.fullmatch(given)
        if not parts:
            return 403, "no authorization of a known form: " + given
        region, service, names = parts.groups()
        names = names.split(";")
        taken = [(name, value) for name, value in headers if name in names and name != "host"]
        try:
            time = datetime.datetime.strptime(only("x-amz-date") or "", "%Y%m%dT%H%M%SZ")
        except ValueError as error:
            return 403, str(error)
        # botocore derives the host that it signs from the URL.
        url = f"http://{only('host')}{target}"
        request, canonical = signed(method, url, taken, body, region, service, only("x-amz-security-token"), time)
        if request.headers["Authorization"] == given:
            return 200, ""
        return 403, f"{given}\nis not what botocore makes of it:\n{request.headers['Authorization']}\n{canonical}"


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def judge():
    with Server(("127.0.0.1", 0), Judge) as server:
        print(server.server_address[1], flush=True)
        # Whoever started this ends it by closing its standard input, be it by being killed.
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()


def sign(address, path):
    connection = http.client.HTTPConnection(address)
    for line in open(path):
        given = json.loads(line)
        host = given["host"] or address
        body = base64.b64decode(given["body"])
        request, _ = signed(
            given["method"],
            f"http://{host}{given['target']}",
            given["headers"],
            body,
            given["region"],
            given["service"],
            given["token"],
            datetime.datetime.strptime(given["time"], "%Y%m%dT%H%M%SZ"),
        )
        connection.putrequest(given["method"], given["target"], skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        text = response.read().decode()
        print(response.status, quote(text, safe=" '"), flush=True)


if sys.argv[1] == "judge":
    judge()
else:
    sign(*sys.argv[2:])
