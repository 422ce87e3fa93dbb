"""Chromium without a screen: a page over h2 with sub-resources, a POST and a WebSocket from its script."""

import asyncio
import base64
import json

from stage import find_program
from tls_scene import SUB_RESOURCES

PATIENCE_S = 60


async def play(scene, report):
    check = report.check
    home = scene.stage.dir / "chromium"
    digest = base64.b64encode(scene.shop_ec.key_digest()).decode()
    # It trusts these keys and no others: a certificate of another key ends in an error page, and nothing is reported.
    process = scene.stage.start("chromium", [
        find_program("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
        f"--user-data-dir={home}", "--host-resolver-rules=MAP * 127.0.0.1", f"--ignore-certificate-errors-spki-list={digest}",
        "--remote-debugging-port=0", scene.url("/static/page.html")])
    try:
        said = await asyncio.wait_for(scene.collector.said.get(), PATIENCE_S)
    except asyncio.TimeoutError:
        check("Chromium shows the page", False, f"nothing from it in {PATIENCE_S} s; it said\n{process.said()[-1500:]}")
        return
    finally:
        scene.stage.forget(process)
    found = json.loads(said)
    check("Chromium loads the page and all its parts", found["parts"] == SUB_RESOURCES and not found["errors"],
          f"{found['parts']} parts, {found['errors'] or 'no errors'}; {found['agent'].split(') ')[-1]}")
    check("Chromium: all of it came over h2", set(found["protocols"]) == {"h2"} and len(found["protocols"]) > SUB_RESOURCES,
          str({p: found["protocols"].count(p) for p in set(found["protocols"])}))
    check("Chromium: a POST of 30 kB comes back", found.get("post") is True)
    closed = found.get("close")
    check("Chromium: a WebSocket of 100 kB comes back, closed with its code", found.get("echo") is True and closed == [3000, "enough"],
          str(closed))
