#!/usr/bin/env python3
"""Has `nexa data query` read from an S3 service on loopback: moto, which checks signatures and lists like Amazon's.

    pip install 'moto[server]' boto3
    python scripts/check_s3.py [PATH OF nexa]

Parquet, lines of JSON (also compressed) and CSV lie in a bucket; addresses are keys, prefixes and patterns. The answers must
be those of the same files on disk. Wrong keys, buckets and addresses must be told in a line, without the keys.
"""

import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import boto3
from moto.server import ThreadedMotoServer

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEXA = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/nexa").resolve()
KEY_ID, SECRET = "AKIA0123456789EXAMPLE", "a/very+secret/key0123456789"


def nexa(lab, *arguments, **variables):
    """Runs a command in a lab, with no variables of AWS but those given."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment.update(variables)
    done = subprocess.run([NEXA, *arguments], cwd=lab, env=environment, capture_output=True, text=True)
    assert "panicked" not in done.stderr, done.stderr
    for secret in (SECRET, KEY_ID):
        assert secret not in done.stdout + done.stderr, f"{arguments} shows a key: {done.stderr}"
    return done


def answer(lab, sql, **variables):
    done = nexa(lab, "data", "query", sql, "--format", "jsonl", **variables)
    assert done.returncode == 0, f"{sql}: {done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(lab, sql, code, *words, **variables):
    done = nexa(lab, "data", "query", sql, **variables)
    assert done.returncode == code, f"{sql}: {done.returncode}, not {code}: {done.stderr}"
    first = done.stderr.splitlines()[0]
    for word in words:
        assert word in first, f"{sql}: {done.stderr}"
    assert len(done.stderr.splitlines()) <= 2, done.stderr
    print("  refused:", first)


def write_files(lab):
    """Makes the same rows in every format, in shards."""
    for shard in range(3):
        rows = [{"n": shard * 1000 + n, "text": f"row {n}", "half": n / 2} for n in range(1000)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        for name, content in {
            f"lines/{shard}.jsonl": lines.encode(),
            f"packed/{shard}.jsonl.gz": gzip.compress(lines.encode()),
            f"cells/{shard}.csv": ("n,text,half\n" + "".join("{n},{text},{half}\n".format(**r) for r in rows)).encode(),
        }.items():
            path = lab / "rows" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        output = f"rows/columns/deep/{shard} %.parquet"
        kept = nexa(lab, "data", "query", f"SELECT * FROM 'rows/lines/{shard}.jsonl'", "--output", output)
        assert kept.returncode == 0, kept.stderr


def main():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    right = {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }
    try:
        with tempfile.TemporaryDirectory() as folder:
            check(pathlib.Path(folder), endpoint, right)
    finally:
        server.stop()


def check(lab, endpoint, right):
    assert nexa(lab, "init", "--project", "tutor").returncode == 0
    write_files(lab)
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET
    )
    s3.create_bucket(Bucket="lab-data")
    for path in sorted((lab / "rows").rglob("*.*")):
        s3.upload_file(str(path), "lab-data", str(path.relative_to(lab / "rows")))

    question = "SELECT count(*) AS n, sum(n) AS s, max(text) AS last, avg(half) AS mean FROM '{}' WHERE n >= 500"
    addresses = [
        "lines/*.jsonl", "lines/1.jsonl", "lines/", "lines", "packed/*.jsonl.gz", "cells/[01].csv",
        "columns/deep/*.parquet", "columns/**/*.parquet", "columns", "columns/deep/2 %.parquet",
    ]
    for address in addresses:
        ours = answer(lab, question.format(f"s3://lab-data/{address}"), **right)
        assert ours == answer(lab, question.format(f"rows/{address}")), address
        print("  equal:", address, ours)
    both = "SELECT count(*) AS n FROM 's3://lab-data/lines/*.jsonl' l JOIN 's3://lab-data/columns/' p ON l.n = p.n"
    assert answer(lab, both, **right) == [{"n": 3000}]
    first = "SELECT n FROM 's3://lab-data/columns/deep/*.parquet' LIMIT 3 OFFSET 999"
    assert [row["n"] for row in answer(lab, first, **right)] == [999, 1000, 1001]

    (lab / ".env").write_text("".join(f"{name}={value}\n" for name, value in right.items()))
    assert answer(lab, both) == [{"n": 3000}], "the variables may stand in .env"
    (lab / ".env").unlink()

    one = "SELECT * FROM 's3://{}'"
    refused(lab, one.format("lab-data/lines/9.jsonl"), 4, "s3://lab-data/lines/9.jsonl", "it is not there", **right)
    refused(lab, one.format("lab-data/none/*.jsonl"), 4, "s3://lab-data/none/*.jsonl", **right)
    refused(lab, one.format("other/lines/*.jsonl"), 4, "there is no such bucket", **right)
    refused(lab, one.format("lab-data/lines/*.jsonl"), 7, "AWS_ACCESS_KEY_ID is not set")
    refused(lab, one.format("lab-data/lines/*.jsonl"), 6, "s3://lab-data", **{**right, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    refused(lab, one.format("lab-data/lines/*.jsonl"), 6, "s3://lab-data", **{**right, "AWS_ALLOW_HTTP": "false"})
    s3.put_object(Bucket="lab-data", Key="bad/1.jsonl", Body=b'{"n": 1}\nno row\n')
    refused(lab, one.format("lab-data/bad/*.jsonl"), 4, "s3://lab-data/bad/1.jsonl: line 2: not JSON", **right)
    s3.put_object(Bucket="lab-data", Key="bad/1.parquet", Body=b"PAR1 and nothing else PAR1")
    refused(lab, one.format("lab-data/bad/1.parquet"), 4, "s3://lab-data/bad/1.parquet", **right)

    # From here on the service looks at the keys, and these belong to nobody.
    requests_of(endpoint, "/moto-api/reset-auth", b"0")
    refused(lab, one.format("lab-data/lines/*.jsonl"), 7, "the service refused the credentials", **right)
    refused(lab, one.format("lab-data/lines/1.jsonl"), 7, "the service refused the credentials", **right)
    left = list((lab / ".nexa/query").iterdir())
    assert not left, left
    print("all as it should be")


def requests_of(endpoint, path, body):
    import urllib.request

    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(endpoint + path, data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status == 200, reply.status


if __name__ == "__main__":
    main()
