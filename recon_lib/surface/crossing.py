"""The program that `intersections` runs: `crossing.py mesh.npz` writes into mesh.npy whether each face passes through another.

It imports nothing of the library, because it is started for every mesh and torch takes seconds to import.
"""

import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    from igl import predicates

    given = np.load(sys.argv[1])
    _, pairs, _ = predicates.find_self_intersections(given["verts"], given["faces"], False)
    np.save(Path(sys.argv[1]).with_suffix(".npy"), np.isin(np.arange(len(given["faces"])), pairs))
