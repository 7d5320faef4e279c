"""The program that `intersections` runs: for each line of its input, the path of a mesh.npz, it writes into mesh.npy whether
each face passes through another, and then a line.

It imports nothing of the library, because torch takes seconds to import.
"""

import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    from igl import predicates

    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        with np.load(path) as given:
            _, pairs, _ = predicates.find_self_intersections(given["verts"], given["faces"], False)
            np.save(path.with_suffix(".npy"), np.isin(np.arange(len(given["faces"])), pairs))
        print(flush=True)
