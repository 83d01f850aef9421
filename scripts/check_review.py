#!/usr/bin/env python3
"""Drives the review in a real browser: keys, drafts, reloads, a killed server, a disk that refuses, two reviewers.

    cargo build --release -p nexa-ui --example dashboard
    python3 scripts/check_review.py target/release/examples/dashboard [FOLDER_FOR_SCREENSHOTS]

Needs `chromium` and nothing else. It speaks the browser's debugging protocol over a WebSocket of its own.
"""

import base64
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

DEADLINE_S = 20
ARTIFACT = "/review/arithmetic_tutor/filtered_v1"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,900",
]
CODES = {"Enter": 13, "Backspace": 8, "Escape": 27, "ArrowRight": 39, "ArrowLeft": 37}


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
    def __init__(self, binary, lab):
        self.command, self.port = [binary, lab], free_port()
        self.start()

    def start(self):
        self.process = subprocess.Popen([*self.command, str(self.port)], stderr=subprocess.DEVNULL)
        wait_for("the server starts", lambda: self.answers())

    def answers(self):
        try:
            return urllib.request.urlopen(self.url("/review")).status == 200
        except OSError:
            return False

    def kill(self):
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

    def press(self, key, control=False):
        event = {"key": key, "windowsVirtualKeyCode": CODES.get(key, ord(key[0].upper())), "modifiers": 2 if control else 0}
        if len(key) == 1 and not control:
            event["text"] = key
        self.call("Input.dispatchKeyEvent", type="keyDown", **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def shot(self, name):
        if self.shots:
            image = self.call("Page.captureScreenshot")["data"]
            (self.shots / f"{name}.png").write_bytes(base64.b64decode(image))

    def row(self):
        return self.js("document.querySelector('#record')?.dataset.row")

    def status(self):
        return self.js("document.querySelector('.record-head .verdict')?.textContent")

    def text(self):
        return self.js("document.querySelector('#text')?.value")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.profile.cleanup()


class Check:
    def __init__(self, server, browser, lab):
        self.server, self.browser = server, browser
        self.folder = pathlib.Path(lab) / "data/processed/arithmetic_tutor/distillation/labels"

    def lines(self, reviewer):
        path = self.folder / f"filtered_v1.{reviewer}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def written(self, reviewer, *actions):
        """Waits until the last lines of a reviewer are these."""
        def look():
            return [line["action"] for line in self.lines(reviewer)][-len(actions):] == list(actions)
        wait_for(f"{reviewer} wrote {actions}, not {self.lines(reviewer)[-3:]}", look)

    def at(self, row):
        wait_for(f"the page shows {row}, not {self.browser.row()}", lambda: self.browser.row() == row)

    def begins_by_name(self):
        browser = self.browser
        browser.open(self.server.url(ARTIFACT))
        browser.js("document.querySelector('#reviewer').focus()")
        browser.type("ana")
        browser.press("Enter")
        # Enter in a field sends its form in a browser; the protocol's key does not.
        browser.js("document.querySelector('#reviewer')?.form.requestSubmit()")
        self.at("problem-0001")
        browser.shot("record")

    def decides_by_keys(self):
        browser = self.browser
        browser.press("a")
        self.at("problem-0002")
        for key in "n":
            browser.press(key)
        browser.type("wrong sum")
        browser.press("Enter")
        browser.press("r")
        self.at("problem-0003")
        # Keys that come faster than answers wait for theirs.
        for _ in range(3):
            browser.press("a")
        self.at("problem-0007")
        self.written("ana", "draft", "reject", "accept", "accept", "accept") if self.lines("ana")[1]["action"] == "draft" \
            else self.written("ana", "reject", "accept", "accept", "accept")
        browser.press("ArrowLeft")
        self.at("problem-0005")
        browser.press("ArrowRight")
        self.at("problem-0007")

    def keeps_drafts(self):
        browser = self.browser
        browser.press("e")
        wait_for("the editor opens", lambda: browser.js("document.activeElement.id") == "text")
        browser.js("document.querySelector('#text').select()")
        browser.type("First the ones.\nThe answer is 7.")
        self.written("ana", "draft")
        browser.shot("edit")
        browser.reload()
        assert browser.text() == "First the ones.\nThe answer is 7.", browser.text()
        assert browser.status() == "draft", browser.status()
        assert browser.js("document.querySelectorAll('#diff del, #diff ins').length") > 1
        # What the server never heard of is in the browser.
        self.server.kill()
        browser.js("document.querySelector('#text').focus()")
        browser.type(" And more.")
        wait_for("the failure is told", lambda: browser.js("document.querySelector('#failed').hidden") is False)
        browser.shot("failed")
        self.server.start()
        browser.reload()
        kept = browser.text()
        assert "And more." in kept, kept
        self.written("ana", "draft", "draft")
        browser.press("Escape")
        browser.js("document.querySelector('#text').focus()")
        browser.press("Enter", control=True)
        self.at("problem-0008")
        assert self.lines("ana")[-1]["text"] == kept

    def undoes_everything(self):
        browser = self.browser
        browser.press("u")
        self.at("problem-0007")
        assert browser.status() == "draft", "what was typed is there again"
        undone = len([line for line in self.lines("ana") if line["action"] in ("accept", "reject", "edit")])
        browser.js("document.activeElement.blur()")
        for _ in range(undone + 3):
            browser.press("u")
        self.at("problem-0001")
        wait_for("all is undone", lambda: browser.js("document.querySelector('.review-bar strong').textContent") == "0")

    def tells_what_cannot_be_written(self):
        browser, path = self.browser, self.folder / "filtered_v1.dan.jsonl"
        path.symlink_to("/nowhere/at/all")
        browser.open(self.server.url(f"{ARTIFACT}?reviewer=dan&row=problem-0001"))
        self.at("problem-0001")
        browser.press("a")
        wait_for("the failure is told", lambda: browser.js("document.querySelector('#failed').hidden") is False)
        told = browser.js("document.querySelector('#failed').textContent")
        assert "filtered_v1.dan.jsonl" in told and "Nothing is lost" in told, told
        path.unlink()
        browser.press("a")
        self.at("problem-0002")

    def several_review_blind(self):
        browser = self.browser
        decisions = {"ben": "aaraaxraaa", "cy": "aaraaararr"}
        for reviewer, keys in decisions.items():
            browser.open(self.server.url(f"{ARTIFACT}?reviewer={reviewer}"))
            self.at("problem-0001")
            assert browser.js("document.querySelectorAll('.opinion').length") == 0, "others are not told beforehand"
            for key in keys:
                browser.press(key)
            wait_for(f"{reviewer} decides", lambda: len(self.lines(reviewer)) == len(keys))
        browser.open(self.server.url(f"{ARTIFACT}/agreement?reviewer=eve"))
        wait_for("disagreements are listed", lambda: browser.js("document.querySelectorAll('tbody tr').length") == 3)
        browser.shot("agreement")
        browser.js("document.querySelector('tbody a').click()")
        wait_for("both opinions are told", lambda: browser.js("document.querySelectorAll('.opinion').length") == 2)
        browser.shot("settle")
        first = browser.row()
        browser.press("r")
        wait_for("the next one is shown", lambda: browser.row() not in (None, first))
        assert self.lines("eve")[0]["adjudicates"] is True

    def decides_on_many(self):
        browser = self.browser
        browser.open(self.server.url(f"{ARTIFACT}?reviewer=fay&gate=answer"))
        self.at("problem-0000")
        browser.js("document.querySelector('.bulk').open = true; document.querySelector('#count').value = '15'; document.querySelector('.bulk').scrollIntoView()")
        browser.shot("bulk")
        browser.js("document.querySelector('.bulk form').requestSubmit()")
        wait_for("15 are decided", lambda: len(self.lines("fay")) == 15)
        wait_for("the page says so", lambda: "Everything here is decided" in (browser.js("document.body.innerText") or ""))
        browser.press("u")
        wait_for("they are undone at once", lambda: len(self.lines("fay")) == 30)

    def looks(self):
        browser = self.browser
        browser.open(self.server.url("/review?reviewer=ben"))
        browser.shot("list")
        browser.js("localStorage.setItem('theme', 'dark')")
        browser.open(self.server.url(f"{ARTIFACT}?reviewer=ben&row=problem-0000"))
        browser.press("?")
        browser.shot("dark_help")
        browser.press("Escape")
        browser.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
        browser.reload()
        browser.shot("narrow")
        wide = browser.js("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert not wide, "the narrow page scrolls sideways"


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    shots = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as lab:
        server = Server(binary, lab)
        browser = Browser(shots)
        try:
            check = Check(server, browser, lab)
            for step in (
                check.begins_by_name, check.decides_by_keys, check.keeps_drafts, check.undoes_everything,
                check.tells_what_cannot_be_written, check.several_review_blind, check.decides_on_many, check.looks,
            ):
                step()
                print("ok  " + step.__name__.replace("_", " "))
            # A server that is killed or refuses leaves its own lines; everything else is a defect.
            expected = re.compile("ERR_CONNECTION|Failed to load resource|Failed to fetch")
            odd = [line for line in browser.console if not expected.search(line)]
            assert not odd, odd
        finally:
            browser.close()
            server.kill()


main()
