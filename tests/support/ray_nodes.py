"""Runs a Ray cluster of two nodes with a core each, as a process of its own.

It prints the cluster's address, kills the second node at the first line of its input, says so, and
ends with its input.
"""

from __future__ import annotations

import sys
from typing import Any

from ray.cluster_utils import Cluster

_SMALL: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 150_000_000}
_SOON = {  # that a node is missing is noticed in seconds
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
}


def main() -> None:
    """Run the cluster for as long as somebody listens."""
    head = {**_SMALL, "include_dashboard": False, "_system_config": _SOON}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    second = cluster.add_node(**_SMALL)
    print(cluster.address, flush=True)  # noqa: T201 - to whoever started it
    if sys.stdin.readline():
        cluster.remove_node(second, allow_graceful=False)
        print("killed", flush=True)  # noqa: T201
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
