#!/usr/bin/env python3
"""Drives the review in a real browser: keys, drafts, reloads, a killed server, a disk that refuses, two reviewers.

    cargo build --release -p nexa-ui --example dashboard
    python3 scripts/check_review.py target/release/examples/dashboard [FOLDER_FOR_SCREENSHOTS]

Needs `chromium` and nothing else.
"""

import json
import pathlib
import re
import sys
import tempfile

from browser import Browser, Server, wait_for

ARTIFACT = "/review/arithmetic_tutor/filtered_v1"


class Review(Browser):
    """A tab that shows a review."""

    def row(self):
        return self.js("document.querySelector('#record')?.dataset.row")

    def status(self):
        return self.js("document.querySelector('.record-head .verdict')?.textContent")

    def text(self):
        return self.js("document.querySelector('#text')?.value")


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
        server = Server(binary, lab, "{port}", path="/review").start()
        browser = Review(shots)
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
