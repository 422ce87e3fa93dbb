"""What must hold in the cross trials, whatever was done at once: the model that steps write to and servers are held against."""

import time


class Broken(Exception):
    """Something that must hold does not."""


class Expected:
    """What `status` must say of one server."""

    def __init__(self, pool, name, weight=100):
        self.pool, self.name = pool, name
        self.present, self.weight, self.file_drain = True, weight, False
        self.word = self.word_weight = None
        self.healthy = True


class Model:
    def __init__(self):
        self.servers = {}
        # server → {why: (from, to)}: no request whose client began in between may come to it; `to` is None while that lasts.
        self.closed = {}
        self.generation = 0
        self.last_event = 0

    def add(self, pool, name):
        self.servers[name] = Expected(pool, name)

    def close(self, name, why):
        """From now on: whoever begins later must not be sent there."""
        reasons = self.closed.setdefault(name, {})
        if why not in reasons or reasons[why][1] is not None:
            reasons[why] = (time.monotonic(), None)

    def open(self, name, why):
        """To be said before whatever makes it so."""
        since, until = self.closed.get(name, {}).get(why, (None, None))
        if since is not None and until is None:
            self.closed[name][why] = (since, time.monotonic())

    def judge(self, server, began, now):
        for why, (since, until) in self.closed.get(server, {}).items():
            if began >= since and (until is None or now <= until):
                return f"{now - since:.3f} s after it was {why} (its client began {began - since:.3f} s after that)"
        return ""

    def took(self, generation):
        if generation < self.generation:
            raise Broken(f"generation {generation} after {self.generation}")
        self.generation = generation

    def differences(self, status):
        """How `status` differs from what must be."""
        found, seen = [], set()
        for pool in status["pools"]:
            for server in pool["servers"]:
                name, where = server["name"], f"{pool['name']}/{server['name']}"
                expected = self.servers.get(name)
                if expected is None or not expected.present:
                    if server["state"] != "leaving":
                        found.append(f"{where} is there, {server['state']}")
                    continue
                if server["state"] == "leaving":
                    continue
                seen.add(name)
                word = (server["admin"]["by_operator"] or {}).get("state")
                weight = expected.word_weight or expected.weight
                for what, is_so, must in (
                        ("an operator's word", word, expected.word), ("weight", server["weight"], weight),
                        ("weight by an operator", server["weight_by_operator"], expected.word_weight is not None),
                        ("drained by the file", server["admin"]["by_configuration"], expected.file_drain)):
                    if is_so != must:
                        found.append(f"{where}: {what} is {is_so}, not {must}")
                # In maint nobody asks how it is.
                if expected.word != "maint" and server["health"] != ("up" if expected.healthy else "down"):
                    found.append(f"{where} is {server['health']}, not {'up' if expected.healthy else 'down'}"
                                 f" (last failure: {server['last_failure']})")
            if pool["failing_open"]:
                found.append(f"{pool['name']} fails open")
        found += [f"{e.pool}/{e.name} is not there" for e in self.servers.values() if e.present and e.name not in seen]
        return found

    def take_events(self, ids, where):
        """The ledger goes on from the last one known, without a gap and without one twice."""
        for identity in ids:
            if identity != self.last_event + 1:
                last, self.last_event = self.last_event, max(ids)
                raise Broken(f"{where}: event {identity} after {last} (of {ids[0]} to {ids[-1]})")
            self.last_event = identity
