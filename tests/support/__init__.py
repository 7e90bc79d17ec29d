"""Helpers: servers, clusters, a proxy, drivers of both clients, strategies."""
