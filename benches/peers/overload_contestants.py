"""Who takes part in benches/peers/overload: evenkeel, HAProxy and Envoy, told how many requests each server does well with at once."""

import envoy_config
from peers import Envoy, Evenkeel, Haproxy, find_program

# Requests that wait, and for how long (s), wherever that can be said.
WAITING, TIMEOUT = 1000, 5


def evenkeel(places, queue="{}", what=None):
    """`places` is how many a server does well with, or None: then it has no limit."""

    class Balancer(Evenkeel):
        label = f"evenkeel, {what or f'`queue: {queue}`'}"

        def launch(self):
            servers = ", ".join(f"127.0.0.1:{port}" for port in self.app_port)
            conf = self.dir / "evenkeel.yaml"
            conf.write_text(
                f"admin: {{ address: null, socket: {self.dir}/admin.sock, state_file: null }}\n"
                f"listeners:\n  web: {{ address: 127.0.0.1:{self.port}, pool: app }}\n"
                f"pools:\n  app: {{ servers: [{servers}], max_connections: {places or 'null'}, queue: {queue} }}\n"
            )
            self.process = self.stage.start("evenkeel", [self.binary, "run", "-c", str(conf)])

    return Balancer


def haproxy(places):
    class Balancer(Haproxy):
        label = "HAProxy, `maxconn`, `option abortonclose`"

        def launch(self):
            servers = "".join(f"  server s{port} 127.0.0.1:{port} maxconn {places}\n" for port in self.app_port)
            conf = self.dir / "haproxy.cfg"
            conf.write_text(
                "global\n  maxconn 8000\n"
                "defaults\n  mode http\n  option abortonclose\n  timeout connect 3s\n  timeout client 60s\n  timeout server 30s\n"
                f"  timeout queue {TIMEOUT}s\n"
                f"frontend web\n  bind 127.0.0.1:{self.port}\n  default_backend app\n"
                f"backend app\n  balance leastconn\n{servers}"
            )
            self.process = self.stage.start("haproxy", [find_program("haproxy"), "-f", str(conf)])

    return Balancer


class EnvoyBalancer(Envoy):
    """One thread, for each has connections of its own, so that limits would be for each thread."""

    def begin(self, thresholds, filters=(), **settings):
        app = envoy_config.cluster(
            self.app_port, connect_timeout="3s", lb_policy="LEAST_REQUEST", circuit_breakers=thresholds, **settings)
        routes = [{"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "30s"}}]
        self.process = envoy_config.start(self, routes, app, filters, threads=1)


UNBOUNDED = {"max_connections": 8000, "max_pending_requests": 8000, "max_requests": 8000}


def envoy_waiting(places):
    class Balancer(EnvoyBalancer):
        label = "Envoy, `max_connections` per host, `max_pending_requests`"

        def launch(self):
            self.begin({
                "thresholds": [{**UNBOUNDED, "max_pending_requests": WAITING}],
                "per_host_thresholds": [{"max_connections": places}],
            })

    return Balancer


def envoy_refusing(places):
    class Balancer(EnvoyBalancer):
        label = "Envoy, `max_requests`"

        def launch(self):
            self.begin({"thresholds": [{**UNBOUNDED, "max_requests": places * len(self.app_port)}]})

    return Balancer


def envoy_adaptive():
    class Balancer(EnvoyBalancer):
        label = "Envoy, adaptive concurrency"

        def launch(self):
            limits = {"max_concurrency_limit": 1000, "concurrency_update_interval": "0.2s"}
            least = {"interval": "30s", "request_count": 50, "min_concurrency": 4, "jitter": {"value": 10}}
            gradient = {
                "sample_aggregate_percentile": {"value": 90}, "concurrency_limit_params": limits, "min_rtt_calc_params": least,
            }
            self.begin({"thresholds": [UNBOUNDED]}, [{
                "name": "envoy.filters.http.adaptive_concurrency",
                "typed_config": {
                    "@type": f"{envoy_config.HTTP}.http.adaptive_concurrency.v3.AdaptiveConcurrency",
                    "gradient_controller_config": gradient, "enabled": {"default_value": True},
                },
            }])

    return Balancer
