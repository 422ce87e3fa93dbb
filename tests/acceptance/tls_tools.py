"""The tools that operators judge a TLS server by, against evenkeel: testssl.sh, curl, openssl, h2load."""

import asyncio
import itertools
import json
import re
import time

from stage import find_program

NUMBERS = itertools.count(1)
# What testssl.sh finds and we stand by. Its version 3.0 asks for the server's order of ciphers whatever is on offer
# (testssl.sh issue 1311; later ones go by what is). All that we offer is AEAD with forward secrecy, and then the client
# knows better which of them its processor is fast at, as Mozilla recommends. The second is about this machine's openssl.
STOOD_BY = {"cipher_order", "engine_problem"}
HARMLESS = {"OK", "INFO", "DEBUG"}


async def run(stage, argv, deadline_s=60):
    """(exit code, what it said) of a program that is ended with the run."""
    process = stage.start(f"{argv[0]}-{next(NUMBERS)}", [find_program(argv[0]) or argv[0], *argv[1:]])
    end = time.monotonic() + deadline_s
    while process.running():
        if time.monotonic() > end:
            stage.forget(process)
            return -1, f"{argv[0]} did not end within {deadline_s:g} s"
        await asyncio.sleep(0.02)
    stage.processes.remove(process)
    return process.popen.returncode, process.said()


# --- testssl.sh -------------------------------------------------------------------------------------------


RESUMED = "sessionresumption_ticket"


async def examine(scene, *options):
    """What testssl.sh finds: a list, empty if it does not reach its end; and what it said."""
    path = scene.stage.dir / f"testssl-{next(NUMBERS)}.json"
    code, said = await run(scene.stage, [
        "testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1", "--sneaky",
        "--add-ca", scene.authority.path, *options, "--jsonfile", path, f"shop.example:{scene.ports['web']}"], 200)
    try:
        return json.loads(path.read_text()), said
    except (OSError, ValueError) as e:
        return [], f"exit code {code}, {e}: {said[-1000:]}"


async def testssl(scene, report):
    """All its tests but the simulations of clients that are gone."""
    check = report.check
    findings, said = await examine(scene, "-p", "-s", "-S", "-P", "-f", "-U")
    if not findings:
        check("testssl.sh reaches its end", False, said)
        return
    # It closes its first connection at once. If the ticket, which in TLS 1.3 comes after the handshake, is not there by
    # then, it has no session to resume and cannot tell.
    for _ in range(3):
        unclear = [f for f in findings if f["id"] == RESUMED and f["severity"] == "WARN"]
        if not unclear:
            break
        again, _ = await examine(scene, "-S")
        findings = [f for f in findings if f not in unclear] + [f for f in again if f["id"] == RESUMED]
    found = {f["id"]: f for f in findings}
    stood_by = STOOD_BY if "ocsp" in scene.can else STOOD_BY | {"OCSP_stapling"}
    bad = [f for f in findings if f["severity"] not in HARMLESS and f["id"].split(" ")[0] not in stood_by]
    check("testssl.sh finds no weakness", not bad and len(findings) > 100,
          "; ".join(f"{f['id']} {f['severity']}: {f['finding']}" for f in bad[:8]) or f"{len(findings)} findings")

    def says(name, words):
        got = found.get(name, {}).get("finding", "nothing")
        return check(f"testssl.sh, {name}: {words}", words in got, "" if words in got else got)

    for old in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
        says(old, "not offered")
    says("TLS1_2", "offered")
    says("TLS1_3", "offered with final")
    says("ALPN_HTTP2", "h2")
    for weak in ("cipherlist_NULL", "cipherlist_aNULL", "cipherlist_EXPORT", "cipherlist_LOW", "cipherlist_3DES_IDEA",
                 "cipherlist_AVERAGE"):
        says(weak, "not offered")
    says(RESUMED, "supported")
    kinds = {f["finding"].split(" ")[0] for f in findings if f["id"].startswith("cert_keySize")}
    check("testssl.sh is shown an ECDSA and an RSA certificate", kinds == {"EC", "RSA"}, str(kinds))
    trusted = [f["finding"] for f in findings if f["id"].startswith("cert_chain_of_trust")]
    check("testssl.sh trusts both chains", trusted == ["passed."] * 2, str(trusted))
    if "ocsp" in scene.can:
        staples = [f["finding"] for f in findings if f["id"].startswith("OCSP_stapling")]
        check("testssl.sh is shown both OCSP staples", staples == ["offered"] * 2, str(staples))


# --- curl -------------------------------------------------------------------------------------------------


class Curl:
    def __init__(self, scene):
        self.scene = scene

    async def __call__(self, path, *options, listener="web", name="shop.example", scheme="https"):
        """(exit code, fields that curl wrote out, body)."""
        stage = self.scene.stage
        body = stage.dir / f"curl-{next(NUMBERS)}.body"
        code, said = await run(stage, [
            "curl", "--silent", "--show-error", "--max-time", "20", "--cacert", self.scene.authority.path,
            "--connect-to", "::127.0.0.1:", "--output", body, "--write-out",
            '%{stderr}{"status": "%{http_code}", "version": "%{http_version}", "redirect": "%{redirect_url}", "head": %{header_json}}',
            *options, self.scene.url(path, listener, name, scheme)])
        start = said.find('{"status"')
        fields = json.loads(said[start:]) if start >= 0 else {"status": 0, "head": {}}
        fields["status"] = int(fields["status"])
        return code, fields, body.read_bytes() if body.exists() else b""


async def curl(scene, report):
    check, ask = report.check, Curl(scene)
    content = scene.files["200b"]
    for http, version in (("--http1.1", "1.1"), ("--http2", "2")):
        for tls in ("1.2", "1.3"):
            code, got, body = await ask("/static/200b", http, f"--tlsv{tls}", "--tls-max", tls)
            check(f"curl {http} over TLS {tls}", code == 0 and got["status"] == 200 and got["version"] == version and body == content,
                  f"exit code {code}, {got.get('status')}, HTTP/{got.get('version')}")
    code, got, body = await ask("/static/200b", "--tls-max", "1.2", "--ciphers", "ECDHE-RSA-AES128-GCM-SHA256")
    check("curl that knows RSA only is shown the RSA certificate", code == 0 and body == content, f"exit code {code}")
    for name, good in (("www.shop.example", True), ("a.shop.example", True), ("pay.example", True), ("a.b.shop.example", False),
                       ("unknown.example", False)):
        code, got, body = await ask("/static/200b", name=name)
        # 60: the certificate is not for this name.
        check(f"curl {'takes' if good else 'refuses'} the certificate for {name}", code == (0 if good else 60), f"exit code {code}")
    code, got, body = await ask("/static/200b", "--tls-max", "1.2", listener="modern")
    check("TLS 1.2 is refused where 1.3 is the least", code == 35, f"exit code {code}")
    code, got, body = await ask("/static/200b", listener="modern")
    check("TLS 1.3 is served there", code == 0 and body == content, f"exit code {code}")

    code, got, body = await ask("/static/1m", "--http2")
    check("curl downloads 1 MiB over h2", code == 0 and body == scene.files["1m"], f"exit code {code}, {len(body)} bytes")
    upload = scene.stage.dir / "www" / "1m"
    for http in ("--http1.1", "--http2"):
        code, got, body = await ask("/echo", http, "--data-binary", f"@{upload}")
        check(f"curl {http} posts 1 MiB and gets it back", code == 0 and body == scene.files["1m"],
              f"exit code {code}, {len(body)} bytes")
    code, got, _ = await ask("/static/200b", "--http2", "--head")
    length = got["head"].get("content-length")
    check("curl --head over h2", code == 0 and length == [str(len(content))], str(length))
    code, got, body = await ask("/headers")
    fields = json.loads(body or b"{}")
    check("the server is told that it was https", fields.get("x-forwarded-proto") == "https" and "proto=https" in fields.get("forwarded", ""))
    if "hsts" in scene.can:
        check("curl is told of HSTS", got["head"].get("strict-transport-security") == ["max-age=31536000"],
              str(got["head"].get("strict-transport-security")))

    code, got, _ = await ask("/a/b?c=d", listener="plain", scheme="http")
    check("plain HTTP is sent to https", code == 0 and got["status"] in (301, 308) and got["redirect"] == "https://shop.example/a/b?c=d",
          f"{got.get('status')} to {got.get('redirect')}")
    began = time.monotonic()
    code, got, body = await ask("/", listener="web", scheme="http")
    check("plain HTTP on the TLS port is answered 400, not left waiting",
          code == 0 and got["status"] == 400 and b"TLS" in body and time.monotonic() - began < 4,
          f"exit code {code}, status {got.get('status')}, {body[:100]}")

    if "client_ca" in scene.can:
        pair = ["--cert", scene.client.cert, "--key", scene.client.key]
        for tls in ("1.2", "1.3"):
            code, got, _ = await ask("/headers", f"--tlsv{tls}", "--tls-max", tls, listener="mutual")
            check(f"without a client certificate there is no answer, TLS {tls}", code != 0, f"exit code {code}")
            code, got, body = await ask("/headers", f"--tlsv{tls}", "--tls-max", tls, *pair, listener="mutual")
            check(f"with a client certificate there is, TLS {tls}", code == 0 and got["status"] == 200, f"exit code {code}")
        code, got, body = await ask("/headers", *pair, listener="mutual")
        fields = json.loads(body or b"{}")
        ours = {k: v for k, v in fields.items() if "client-cert" in k}
        wanted = {"client-cert": f":{scene.client.base64()}:", "x-client-cert-subject": "CN=client.example",
                  "x-client-cert-fingerprint": scene.client.fingerprint}
        check("the server is told who the client is", ours == wanted, "" if ours == wanted else str(fields)[:600])
        forged = [w for k in wanted for w in ("-H", f"{k}: forged", "-H", f"{k.replace('-', '_')}: forged")]
        for listener in ("web", "mutual"):
            code, got, body = await ask("/headers", *pair, *forged, listener=listener)
            check(f"a client cannot say so itself ({listener})", code == 0 and got["status"] == 200 and b"forged" not in body,
                  body.decode()[:300] if b"forged" in body else "")

    if "tls_out" in scene.can:
        for path, protocol in (("inner", "HTTP/1.1"), ("inner_auto", "HTTP/2.0"), ("inner_h2", "HTTP/2.0")):
            if path not in scene.balancer.conf["pools"]:
                continue
            for http in ("--http1.1", "--http2"):
                code, got, _ = await ask(f"/{path}/x", http)
                spoke = (got.get("head", {}).get("x-spoke") or [""])[0]
                good = code == 0 and got["status"] == 200 and spoke.startswith(f"{protocol} TLSv1.3 inner.example")
                check(f"curl {http} to a server over TLS ({path})", good, spoke or str(got)[:200])
        code, got, _ = await ask("/distrust/x")
        check("a server of another authority is not asked: 502", code == 0 and got["status"] == 502, str(got.get("status")))


# --- openssl ----------------------------------------------------------------------------------------------


def handshakes(scene):
    """How many the metrics count, by their end."""
    return {end: int(scene.balancer.metric("evenkeel_tls_handshakes_total", result=end) or 0) for end in ("full", "resumed", "failed")}


async def openssl(scene, report):
    """The handshakes, one by one, and whether the metrics say the same of them."""
    check, before = report.check, handshakes(scene)

    async def s_client(*options, listener="web", deadline_s=15):
        return (await run(scene.stage, [
            "openssl", "s_client", "-connect", f"127.0.0.1:{scene.ports[listener]}", "-servername", "shop.example", "-CAfile",
            scene.authority.path, "-verify_return_error", *options], deadline_s))[1]

    def resumed(said):
        return len(re.findall(r"^Reused, ", said, re.M)), len(re.findall(r"^New, ", said, re.M))

    for how, options in (("ticket", []), ("session id", ["-no_ticket"])):
        said = await s_client("-tls1_2", "-reconnect", *options)
        check(f"openssl resumes TLS 1.2 by {how}", resumed(said) == (5, 1), f"{resumed(said)[0]} of 5")
    # A TLS 1.3 session comes after the handshake: read an answer before the end.
    saved = scene.stage.dir / "session.pem"
    asked = scene.stage.dir / "request"
    asked.write_text("GET /static/200b HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
    for how in ("-sess_out", "-sess_in"):
        _, said = await run(scene.stage, ["sh", "-c", (
            f"openssl s_client -ign_eof -connect 127.0.0.1:{scene.ports['web']} -servername shop.example -CAfile '{scene.authority.path}' "
            f"-tls1_3 {how} '{saved}' <'{asked}' 2>&1")], 15)
    check("openssl resumes TLS 1.3 by ticket", resumed(said) == (1, 0) and "200 OK" in said, said[-200:] if resumed(said) != (1, 0) else "")
    said = await s_client("-alpn", "h2,http/1.1")
    check("openssl agrees on h2", "ALPN protocol: h2" in said and "Verify return code: 0" in said)
    said = await s_client("-alpn", "nonsense")
    refused = "no application protocol" in said
    check("a protocol nobody speaks is refused by an alert", refused, "" if refused else said[-200:])
    # Half a request is there, so nothing else is written meanwhile.
    _, said = await run(scene.stage, ["sh", "-c", (
        f"(printf 'GET / HTTP/1.1\\r\\n'; sleep 0.3; echo R; sleep 2) | openssl s_client -connect 127.0.0.1:{scene.ports['web']} "
        f"-servername shop.example -CAfile '{scene.authority.path}' -tls1_2 2>&1")], 15)
    refused = "no renegotiation" in said
    check("a renegotiation is refused by an alert at once", refused, "" if refused else said[-200:])
    wanted = {"full": 5, "resumed": 11, "failed": 1}
    end = time.monotonic() + 10
    while (now := {k: v - before[k] for k, v in handshakes(scene).items()}) != wanted and time.monotonic() < end:
        await asyncio.sleep(0.05)
    check("the metrics count each handshake by its end", now == wanted, str(now))
    until = scene.balancer.metric("evenkeel_tls_listener_certificate_expiry_timestamp_seconds", listener="web",
                                  certificate=str(scene.shop_ec.cert))
    check("the metrics say until when a certificate holds", until == scene.shop_ec.expiry(), f"{until}")
    if "ocsp" in scene.can:
        said = await s_client("-status")
        check("openssl is shown the OCSP staple", "OCSP Response Status: successful" in said and "Cert Status: good" in said)


# --- h2load -----------------------------------------------------------------------------------------------


async def h2load(scene, path, count, *options, listener="web"):
    """(requests that succeeded, what it said) of `count` over TLS with twenty streams at once on each of ten connections."""
    code, said = await run(scene.stage, [
        "h2load", "-c10", "-m20", f"-n{count}", "-T30s", "-N30s", "--connect-to", f"127.0.0.1:{scene.ports[listener]}",
        *options, f"https://shop.example:{scene.ports[listener]}{path}"], 90)
    got = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    codes = re.search(r"status codes: (\d+) 2xx", said)
    if not got or not codes or "Application protocol: h2" not in said:
        return 0, f"exit code {code}: {said}"
    return min(int(got[1]), int(codes[1])), said


async def h2load_all(scene, report):
    for path, count in (("/static/200b", 8000), ("/bytes/2000/1", 2000), ("/static/1m", 200)):
        good, said = await h2load(scene, path, count)
        rate = re.search(r"finished in [\w.]+, ([\d.]+) req/s", said)
        report.check(f"h2load: {count} × {path} over TLS, none failed", good == count,
                     f"{float(rate[1]):.0f} requests/s" if good == count and rate else f"{good} good; it said\n{said[-800:]}")
