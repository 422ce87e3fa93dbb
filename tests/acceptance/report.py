"""What a run says and counts: a line for each fact with its time, and how many of them held."""

import time


class Report:
    def __init__(self):
        self.started = time.monotonic()
        self.passed = 0
        self.failed = []

    def say(self, text):
        print(f"{time.monotonic() - self.started:6.1f} s  {text}", flush=True)

    def check(self, what, good, detail=""):
        if good:
            self.passed += 1
        else:
            self.failed.append(what)
        tail = f": {detail}" if detail != "" else ""
        self.say(f"{'ok    ' if good else 'FAILED'} {what}{tail}")
        return good

    def sum_up(self):
        """The last line; returns the exit code."""
        print(f"{self.passed} passed, {len(self.failed)} failed", flush=True)
        for what in self.failed:
            print(f"  FAILED {what}", flush=True)
        return 1 if self.failed else 0
