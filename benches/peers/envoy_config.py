"""Envoy's configuration for one listener and one cluster of servers on loopback; what differs between benches is given."""

import json

from peers import envoy_program

HTTP = "type.googleapis.com/envoy.extensions.filters"


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(ports, **settings):
    endpoints = [{"endpoint": {"address": address(port)}} for port in ports]
    assignment = {"cluster_name": "app", "endpoints": [{"lb_endpoints": endpoints}]}
    return {"name": "app", "type": "STATIC", "load_assignment": assignment, **settings}


def start(balancer, routes, app, filters=(), threads=2):
    """Starts it for a contestant. `app` is its cluster; `filters` are HTTP filters before the router."""
    return balancer.stage.start("envoy", command(balancer.dir, balancer.port, routes, [app], filters, threads))


def command(directory, port, routes, clusters=(), filters=(), threads=2, **settings):
    """Writes its configuration; `settings` are the connection manager's own."""
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{HTTP}.http.router.v3.Router"}}
    manager = {
        "@type": f"{HTTP}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [*filters, router],
        **settings,
    }
    listener = {
        "name": "web", "address": address(port),
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    }
    conf = directory / "envoy.json"
    conf.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": list(clusters)}}))
    return [str(envoy_program()), "-c", str(conf), "--disable-hot-restart", "--concurrency", str(threads), "-l", "error"]
