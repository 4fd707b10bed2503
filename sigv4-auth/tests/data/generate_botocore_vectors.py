#!/usr/bin/env python3
"""Writes botocore_vectors.json: requests signed by botocore (pip install botocore).

The requests are generated from a fixed seed; botocore only signs. Run it here again to renew them:

    python3 generate_botocore_vectors.py > botocore_vectors.json
"""

import base64
import datetime
import json
import random
from urllib.parse import quote

import botocore
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

RESERVED = "!*'();:@&=$,?#[]%\"<>\\^`{|}"
UNRESERVED = "abcXYZ019-_.~"
# The headers that the signer of this crate takes into a signature.
SIGNED = [
    ("Content-Type", ["application/x-protobuf", "application/x-protobuf;proto=io.prometheus.write.v2.Request", "text/plain; charset=utf-8"]),
    ("Content-Encoding", ["snappy", "gzip"]),
    ("X-Prometheus-Remote-Write-Version", ["0.1.0", "2.0.0"]),
    ("X-Amz-Target", ["Service.Action", "a  b   c", "  padded  "]),
]
UNSIGNED = [
    ("X-Scope-OrgID", ["team-a", "a,b"]),
    ("Accept", ["*/*", "a;q=0.5,  b"]),
    ("Cookie", ["a=1; b=\"2  3\""]),
]


def segment(rng):
    alphabet = rng.choice([UNRESERVED, UNRESERVED + RESERVED, UNRESERVED + " /é☃"])
    raw = "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 8)))
    raw = raw.strip(".") or "x"
    return quote(raw, safe="-_.~" + rng.choice(["", "!*'();:@&=$,"]))


def query(rng):
    pairs = []
    for _ in range(rng.randint(0, 4)):
        alphabet = rng.choice([UNRESERVED, UNRESERVED + RESERVED + " +/é"])
        name = "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 5)))
        value = "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 6)))
        pairs.append(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}")
    return "&".join(pairs)


def body(rng):
    return rng.choice([b"", b"a", bytes(range(256)), rng.randbytes(rng.randint(1, 200)), b"x" * 70_000])


def vector(rng):
    method = rng.choice(["GET", "POST", "PUT", "DELETE", "PATCH"])
    host = rng.choice(["aps-workspaces.eu-west-1.amazonaws.com", "example.com", "127.0.0.1:8080", "example.com:9443"])
    path = "/" + "/".join(segment(rng) for _ in range(rng.randint(0, 4))) + rng.choice(["", "", "/"])
    path = path.replace("//", "/")
    url = f"{rng.choice(['https', 'http'])}://{host}{path}"
    if text := query(rng):
        url += "?" + text
    only_signed = rng.random() < 0.6
    headers = {}
    for name, values in SIGNED + ([] if only_signed else UNSIGNED):
        if rng.random() < 0.5:
            headers[name] = rng.choice(values)
    data = body(rng)
    time = datetime.datetime(2015, 1, 1) + datetime.timedelta(seconds=rng.randrange(400_000_000))
    token = rng.choice([None, "token/+=" + "t" * rng.randint(0, 600)])
    keys = ("AKID" + "".join(rng.choice("ABC123") for _ in range(8)), "s/+" + "".join(rng.choice(UNRESERVED) for _ in range(30)), token)
    region, service = rng.choice(["us-east-1", "eu-west-1", "cn-north-1"]), rng.choice(["aps", "es", "execute-api"])

    request = AWSRequest(method=method, url=url, headers=dict(headers), data=data)
    botocore.auth.get_current_datetime = lambda *_, **__: time
    botocore.auth.SigV4Auth(Credentials(*keys), service, region).add_auth(request)
    return {
        "method": method,
        "url": url,
        "host": host,
        "headers": headers,
        "only_signed_headers": only_signed,
        # A large body is one byte repeated.
        "body": {"repeat": 70_000} if len(data) == 70_000 else {"base64": base64.b64encode(data).decode()},
        "region": region,
        "service": service,
        "access_key": keys[0],
        "secret_key": keys[1],
        "session_token": token,
        "date": request.headers["X-Amz-Date"],
        "authorization": request.headers["Authorization"],
    }


def main():
    rng = random.Random(20261122)
    vectors = [vector(rng) for _ in range(400)]
    lines = ",\n".join(json.dumps(vector, ensure_ascii=True) for vector in vectors)
    print(f'{{"botocore": "{botocore.__version__}", "vectors": [\n{lines}\n]}}')


main()
