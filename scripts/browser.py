"""What checks in a real browser share: servers that are started and killed, and a tab by the debugging protocol.

Needs `chromium` and nothing else. It speaks the protocol over a WebSocket of its own.
"""

import base64
import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request

DEADLINE_S = 20
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,900",
]
CODES = {"Enter": 13, "Backspace": 8, "Escape": 27, "ArrowRight": 39, "ArrowLeft": 37, "ArrowUp": 38}


def wait_for(what, look):
    """Waits until `look` gives something, and fails with `what` when it does not in time."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"FAILED: {what}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A program that listens on a port of its own, which stands for `{port}` in its command."""

    def __init__(self, *command, path, environment=None):
        self.port, self.path = free_port(), path
        self.command = [str(word).replace("{port}", str(self.port)) for word in command]
        self.environment = {**os.environ, **(environment or {})}
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the server starts", self.answers)
        return self

    def answers(self):
        try:
            return urllib.request.urlopen(self.url(self.path)).status == 200
        except OSError:
            return False

    def kill(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"


class Browser:
    """A tab, by the debugging protocol."""

    def __init__(self, shots):
        self.shots, self.port, self.calls, self.console = shots, free_port(), 0, []
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = ["chromium", *FLAGS, f"--user-data-dir={self.profile.name}", f"--remote-debugging-port={self.port}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        target = wait_for("chromium starts", self.target)
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def target(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/json") as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
        except OSError:
            return None
        return tabs and tabs[0]["webSocketDebuggerUrl"].split(str(self.port), 1)[1]

    def receive(self, size):
        data = b""
        while len(data) < size:
            data += self.socket.recv(size - len(data))
        return data

    def message(self):
        data = b""
        while True:
            first, length = self.receive(2)
            length &= 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", self.receive(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.receive(8))
            data += self.receive(length)
            if first & 0x80:
                return json.loads(data)

    def call(self, method, **parameters):
        self.calls += 1
        data = json.dumps({"id": self.calls, "method": method, "params": parameters}).encode()
        mask, size = os.urandom(4), len(data)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
        self.socket.sendall(b"\x81" + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))
        while True:
            message = self.message()
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.console.append(json.dumps(message["params"])[:300])
            if message.get("id") == self.calls:
                return message.get("result", message)

    def js(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        return answer.get("result", {}).get("value")

    def open(self, url):
        self.call("Page.navigate", url=url)
        wait_for(f"{url} loads", lambda: self.js("document.readyState") == "complete" and self.js("location.href") != "about:blank")

    def reload(self):
        self.js("window.before = true")
        self.call("Page.reload")
        wait_for("the page loads again", lambda: self.js("!window.before && document.readyState === 'complete'"))

    def press(self, key, control=False, shift=False):
        modifiers = (2 if control else 0) | (8 if shift else 0)
        event = {"key": key, "windowsVirtualKeyCode": CODES.get(key, ord(key[0].upper())), "modifiers": modifiers}
        if len(key) == 1 and not control:
            event["text"] = key
        elif key == "Enter":
            event["text"] = "\r"
        self.call("Input.dispatchKeyEvent", type="keyDown", **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def shot(self, name):
        if self.shots:
            image = self.call("Page.captureScreenshot")["data"]
            (self.shots / f"{name}.png").write_bytes(base64.b64decode(image))

    def close(self):
        self.process.kill()
        self.process.wait()
        self.profile.cleanup()
