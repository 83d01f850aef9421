#!/usr/bin/env python3
"""Behaves as `vllm serve` does on the wire, for the tests of the proxy: no model, fixed answers.

What it was started with, and the ends of requests, are written to the file `record` in the model's folder.
"""
import argparse
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["serve"])
parser.add_argument("model")
parser.add_argument("--host", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--served-model-name", nargs="+", required=True)
parser.add_argument("--fail", action="store_true")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
key = os.environ["VLLM_API_KEY"]


def record(line):
    with open(os.path.join(args.model, "record"), "a", encoding="utf-8") as file:
        file.write(line + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, content_type="application/json"):
        body = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def is_known(self):
        if self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self.reply(401, json.dumps({"error": "Unauthorized"}))
        return False

    def do_GET(self):
        if self.path == "/health":
            self.reply(503 if os.path.exists(os.path.join(args.model, "unwell")) else 200, "")
        elif self.path == "/metrics":
            self.reply(200, '# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name="m"} 0.0\n')
        elif self.path == "/v1/models" and self.is_known():
            names = [{"id": name, "object": "model"} for name in args.served_model_name]
            self.reply(200, json.dumps({"object": "list", "data": names}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.is_known():
            return
        if body["model"] not in args.served_model_name:
            self.reply(404, json.dumps({"error": {"message": "no such model", "code": 404}}))
        elif body.get("stream"):
            self.stream(endless=body.get("max_tokens") == 1000)
        elif body.get("max_tokens") == 2000:
            self.half()
        else:
            self.reply(200, json.dumps({"model": body["model"], "seed": args.seed, "path": self.path}))

    def stream(self, endless):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            count = 0
            while endless or count < 3:
                self.chunk(f"data: {count}\n\n")
                count += 1
                time.sleep(0.01)
            self.chunk("data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
            record("complete")
        except OSError:
            record("cancelled")
            self.close_connection = True

    def half(self):
        """The beginning of an answer whose rest never comes, only blanks."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self.chunk('{"model": ')
            while True:
                self.chunk(" ")
                time.sleep(0.01)
        except OSError:
            record("cancelled")
            self.close_connection = True

    def chunk(self, text):
        self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
        self.wfile.flush()


if args.fail:
    sys.exit(3)
record(f"started {' '.join(args.served_model_name)}")
ThreadingHTTPServer((args.host, args.port), Handler).serve_forever()
