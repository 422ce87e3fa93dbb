"""What is done in which round of the cross trials: it follows from the seed and the round's number alone."""

import random

from cross_strangers import STRANGERS

GOOD = ["join", "leave", "weights", "drain", "listener", "timeouts", "address", "address_of_listener", "certificate"]
BAD = ["syntax", "unknown", "nul", "empty", "dangling", "certificate", "taken", "log"]
HUNG = ["access_log", "events", "certificate", "client_ca", "server_ca", "config", "endless", "plan"]
GUARDED = ["kept", "kept", "dead", "drained", "cut", "silent", "probe", "replaced"]


def weighted(chance, choices):
    return chance.choices(list(choices), weights=list(choices.values()))[0]


def words(chance):
    """Up to four words about a2 and a3; the others are never all taken out."""
    said = []
    for _ in range(chance.randint(1, 4)):
        word = chance.choice(["drain", "maint", "ready", "drain", "empty", chance.choice([10, 50, 200])])
        said.append((chance.choice(["a2", "a3"]), word))
    return said


def draw(seed, number):
    """The round's lanes, which go on side by side; of each the acts one after the other, with how long to wait before."""
    chance = random.Random(f"{seed}-{number}")
    lanes, pause = [], lambda: chance.uniform(0, 0.3)
    what = weighted(chance, {"none": 20, "good": 34, "bad": 14, "guard": 13, "hung": 8, "hangups": 5, "full_log": 4})
    beside = weighted(chance, {"none": 44, "upgrade": 30, "twice": 6, "bad_upgrade": 4, "killed_upgrade": 5, "reopen": 8, "admin_crowd": 8})
    files, process = [], []
    if what == "good":
        files.append(("good_reload", chance.choice(GOOD)))
    elif what == "bad":
        files.append(("bad_reload", chance.choice(BAD)))
    elif what == "guard":
        files.append(("guard", chance.choice(GUARDED)))
    elif what == "hung":
        files.append(("hung", chance.choice(HUNG)))
    elif what != "none":
        files.append((what,))
    if beside in ("upgrade", "twice"):
        process.append(("upgrade", 2 if beside == "twice" else 1))
    elif beside == "bad_upgrade":
        process.append(("bad_upgrade", chance.choice(["syntax", "dangling", "certificate"])))
    elif beside != "none":
        process.append((beside,))
    # A process that is started reads the file: whatever is wrong with it, or to be taken back, comes before or after.
    exclusive = (what in ("bad", "hung", "full_log") or (what == "guard" and (files[0][1] != "kept" or beside == "killed_upgrade"))
                 or beside == "bad_upgrade")
    if exclusive and beside in ("upgrade", "twice", "bad_upgrade", "killed_upgrade"):
        both = [*files, *process]
        lanes.append(both if chance.random() < 0.5 else both[::-1])
    else:
        lanes += [files, process]
    if chance.random() < 0.6:
        lanes.append([("words", words(chance))])
    if chance.random() < 0.3:
        lanes.append([("looks",)])
    if chance.random() < 0.45:
        probes = ("probes", chance.choice(["a4", "a4", "t2", "u2"]), chance.choice(["fail", "fail", "hang", "slow", "interim"]))
        if what == "guard":
            # Servers that fall are what a guard is to see; these here are no fault of the file's.
            lanes[0].insert(0, probes)
        elif files != [("good_reload", "leave")]:
            lanes.append([probes])
    for name in chance.sample(list(STRANGERS), chance.choice([0, 1, 2, 3])):
        lanes.append([("stranger", name)])
    return [[(pause(), act) for act in lane] for lane in lanes if lane]
