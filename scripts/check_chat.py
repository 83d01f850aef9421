#!/usr/bin/env python3
"""Drives the chat in a real browser against a real server: streams, stops, errors, edits, keys, markup that stays text.

    cargo build --release --workspace && cargo build --release -p nexa-ui --example dashboard
    python3 scripts/check_chat.py target/release/examples/dashboard target/release/nexa MODEL [FOLDER_FOR_SCREENSHOTS]

MODEL is what `nexa inference` takes: a folder or a .gguf file of a chat model with a context of 1,000 tokens or more.
Needs `chromium` and nothing else.
"""

import json
import pathlib
import re
import sys
import tempfile
import urllib.request

from browser import Browser, Server, wait_for

KEY = "sk-of-the-check"
MARKUP = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>"


class Check:
    def __init__(self, site, server, browser):
        self.site, self.server, self.browser = site, server, browser

    def js(self, expression):
        return self.browser.js(expression)

    def fill(self, selector, text):
        value = json.dumps(text)
        self.js(f"(() => {{ const f = document.querySelector('{selector}'); f.value = {value};"
                "f.dispatchEvent(new Event('input', {bubbles: true})); })()")

    def turns(self):
        return self.js("[...document.querySelectorAll('.turn')].map((t) => [t.dataset.role, t.querySelector('pre')?.textContent ?? ''])")

    def say(self, text):
        self.js("document.querySelector('#message').focus()")
        self.browser.type(text)
        self.browser.press("Enter")

    def idle(self):
        return self.js("document.querySelector('#stop').hidden && !document.querySelector('.writing')")

    def note(self):
        return self.js("[...document.querySelectorAll('.turn')].at(-1)?.querySelector('.facts-line')?.textContent") or ""

    def problem(self):
        return self.js("document.querySelector('.turn .problems')?.textContent") or ""

    def click(self, word, turn=-1):
        self.js(f"[...[...document.querySelectorAll('.turn')].at({turn}).querySelectorAll('button')].find((b) => b.textContent === '{word}').click()")

    def running(self):
        request = urllib.request.Request(self.server.url("/metrics"), headers={"Authorization": f"Bearer {KEY}"})
        text = urllib.request.urlopen(request).read().decode()
        return int(float(re.search(r"^\w*:?num_requests_running(?:{.*})? (\S+)$", text, re.MULTILINE).group(1)))

    def fresh(self):
        self.js("document.querySelector('#fresh').click()")

    def tells_that_no_server_is_there(self):
        self.browser.open(self.site.url("/chat"))
        served = lambda: self.js("document.querySelector('#served').textContent") or ""
        wait_for("the missing server is told", lambda: "connection refused" in served() and "nexa inference" in served())
        self.say("Is anybody there?")
        wait_for("the answer is an error", lambda: "connection refused" in self.problem())
        self.browser.shot("no_server")
        self.server.start()
        wait_for("the page notices the server", lambda: self.js("document.querySelector('.state.ok')") is not None)
        assert "tokens" in served() and "parameters" in served(), served()
        self.click("regenerate")
        wait_for("the same question is answered", lambda: self.idle() and not self.problem() and self.turns()[-1][1])

    def streams(self):
        self.fresh()
        self.fill("#max_tokens", "60")
        self.fill("#temperature", "0")
        self.fill("#system", "You answer shortly.")
        self.js("""(() => {
          window.lengths = [];
          new MutationObserver(() => lengths.push(document.querySelector('.writing pre')?.textContent.length ?? 0))
            .observe(document.querySelector('#turns'), { subtree: true, characterData: true, childList: true });
        })()""")
        self.say("What is the capital of France?")
        wait_for("the answer is complete", lambda: len(self.turns()) == 2 and self.idle())
        lengths = self.js("lengths.filter((length) => length > 0)")
        assert len(set(lengths)) > 5, f"not token by token: {lengths}"
        assert lengths == sorted(lengths), lengths
        assert self.turns()[1][1], self.turns()
        for word in ("prompt tokens", "tokens/s", "first after"):
            assert word in self.note(), self.note()
        before = int(self.note().split()[0])
        self.say("And of Italy?")
        wait_for("the second answer is complete", lambda: len(self.turns()) == 4 and self.idle())
        assert int(self.note().split()[0]) > before + 10, "what was said before is not part of the prompt"
        self.browser.shot("answer")

    def stops(self):
        self.fresh()
        self.fill("#max_tokens", "800")
        self.say("Write a long story about a ship.")
        wait_for("it writes", lambda: len((self.turns() or [[0, ""]])[-1][1]) > 40)
        assert self.running() == 1, self.running()
        self.browser.shot("writing")
        self.js("document.querySelector('#stop').click()")
        wait_for("it stops", self.idle)
        wait_for("the server has let go", lambda: self.running() == 0)
        assert "stopped" in self.note(), self.note()
        told = self.turns()[-1][1]
        self.click("regenerate")
        wait_for("it writes again", lambda: len(self.turns()[-1][1]) > 40)
        self.browser.press("Escape")
        wait_for("Esc stops it", lambda: self.idle() and self.running() == 0)
        start = min(len(told), len(self.turns()[-1][1]))
        assert told[:start] == self.turns()[-1][1][:start], "temperature 0 gives another text"
        self.click("regenerate")
        wait_for("it writes a third time", lambda: len(self.turns()[-1][1]) > 40)
        self.browser.reload()
        wait_for("a page that is left lets go", lambda: self.running() == 0)
        assert len(self.turns()) == 2 and len(self.turns()[-1][1]) > 40, "the conversation is kept"

    def edits(self):
        self.fresh()
        self.fill("#max_tokens", "30")
        self.js("document.querySelector('#message').focus()")
        self.browser.type("What is the capital")
        self.browser.press("Enter", shift=True)
        self.browser.type("of Spain?")
        assert self.js("document.querySelector('#message').value") == "What is the capital\nof Spain?"
        self.browser.press("Enter")
        wait_for("it answers", lambda: len(self.turns()) == 2 and self.idle())
        self.browser.press("ArrowUp")
        wait_for("the last message is edited", lambda: self.js("document.activeElement.className") == "editing")
        self.fill(".editing", "What is the capital of Japan?")
        self.browser.shot("edit")
        self.browser.press("Enter")
        wait_for("it is asked again", lambda: self.idle() and self.turns()[0][1].endswith("Japan?") and self.turns()[-1][1])
        self.click("edit")
        self.fill(".editing", MARKUP)
        self.click("keep")
        wait_for("what it said is changed", lambda: self.turns()[-1][1] == MARKUP)
        assert self.js("document.querySelectorAll('#turns img, #turns script').length") == 0
        assert self.js("window.pwned === undefined"), "text became markup"

    def tells_errors_as_they_are(self):
        self.fresh()
        self.fill("#max_tokens", "10")
        self.fill("#temperature", "9")
        self.say("Hello")
        wait_for("the parameter is named", lambda: "temperature" in self.problem())
        self.fill("#temperature", "0")
        self.fresh()
        self.js("document.querySelector('#message').value = 'long '.repeat(20000)")
        self.say("")
        wait_for("the context is told", lambda: "no room for an answer" in self.problem() or "tokens" in self.problem())
        self.fresh()
        self.say("Hello")
        wait_for("it goes on", lambda: self.idle() and self.turns()[-1][1] and not self.problem())
        self.fill("#max_tokens", "800")
        self.say("Write a long story about a ship.")
        wait_for("it writes", lambda: len(self.turns()[-1][1]) > 40)
        self.server.kill()
        wait_for("a killed server is told", lambda: "broke off" in self.problem())
        self.browser.shot("broken_off")

    def looks(self):
        self.server.start()
        self.fill("#max_tokens", "40")
        self.js("localStorage.setItem('theme', 'dark')")
        self.browser.reload()
        wait_for("the server is there again", lambda: self.js("document.querySelector('.state.ok')") is not None)
        self.click("regenerate")
        wait_for("it answers", lambda: self.idle() and self.turns()[-1][1] and not self.problem())
        self.browser.shot("dark")
        self.browser.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
        self.browser.reload()
        self.browser.shot("narrow")
        wide = self.js("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert not wide, "the narrow page scrolls sideways"

    def keeps_the_key(self):
        page = self.js("document.documentElement.outerHTML + JSON.stringify(sessionStorage) + JSON.stringify(localStorage)")
        assert KEY not in page, "the key reached the browser"
        foreign = self.js(f"performance.getEntriesByType('resource').map((r) => r.name).filter((name) => !name.startsWith(location.origin))")
        assert foreign == [], foreign


def main():
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    dashboard, nexa, model = (str(pathlib.Path(argument).resolve()) for argument in sys.argv[1:4])
    shots = pathlib.Path(sys.argv[4]) if len(sys.argv) > 4 else None
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as lab:
        environment = {"NEXA_API_KEY": KEY}
        server = Server(nexa, "inference", model, "--lab", lab, "--port", "{port}", path="/health", environment=environment)
        site = Server(dashboard, lab, "{port}", f"127.0.0.1:{server.port}", path="/chat", environment=environment).start()
        browser = Browser(shots)
        try:
            check = Check(site, server, browser)
            for step in (
                check.tells_that_no_server_is_there, check.streams, check.stops, check.edits, check.tells_errors_as_they_are,
                check.looks, check.keeps_the_key,
            ):
                step()
                print("ok  " + step.__name__.replace("_", " "))
            # A server that is not there, refuses or is killed leaves its own lines; everything else is a defect.
            expected = re.compile("ERR_|Failed to load resource")
            odd = [line for line in browser.console if not expected.search(line)]
            assert not odd, odd
        finally:
            browser.close()
            site.kill()
            server.kill()


main()
