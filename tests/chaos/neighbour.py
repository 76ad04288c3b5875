"""Another job on the cluster: it keeps more on every node than the object store there has room for."""

import sys

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

OBJECT_BYTES = 10_000_000


class Hoard:
    def keep(self, bytes_kept: int) -> None:
        self.kept = [ray.put(np.ones(OBJECT_BYTES, np.uint8)) for _ in range(bytes_kept // OBJECT_BYTES)]


def main(bytes_kept: int) -> None:
    ray.init(log_to_driver=False)
    hoards = [
        ray.remote(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        )(Hoard).remote()
        for node in ray.nodes()
        if node["Alive"]
    ]
    ray.get([hoard.keep.remote(bytes_kept) for hoard in hoards])
    print("full", flush=True)
    sys.stdin.read()  # until nobody needs it any more


if __name__ == "__main__":
    main(int(sys.argv[1]))
