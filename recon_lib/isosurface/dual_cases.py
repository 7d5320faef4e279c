"""The dual vertices of a cube: the cut edges of each sign pattern, grouped into loops (Nielson 2004).

Corner 4x + 2y + z of a cube is its point (x, y, z) of {0, 1}^3. Edges 0-3 run along x, 4-7 along y, 8-11 along z, each four
ordered by their lower corner. Face 2a + s is the one across axis a, on its lower (s = 0) or upper (s = 1) side. Bit i of a
sign pattern is set where corner i is inside.

The surface crosses a face of the cube in segments, each from one cut edge to another; a loop is a closed chain of segments. On
an ambiguous face, whose diagonals differ in sign, the four cut edges can be paired in two ways. The rule is that segments cut
off the inside corners; it depends on the face alone, so both cubes beside the face agree. If both segments of an ambiguous face
lie in one loop of the cube (the face is pinched), and the same holds in the cube beyond, their two dual edges would coincide,
and four quads would meet there. Both cubes then pair that face the other way, which splits both loops (Wenger's remedy of 2013
for the cases that the FlexiCubes paper calls C16 and C19). No pattern has more than one such face, so a cube has at most one
such change.
"""

import numpy as np

AXIS_BIT = (4, 2, 1)
EDGES = [(low, low | bit) for bit in AXIS_BIT for low in range(8) if not low & bit]
PAIRED_OTHERWISE = 256  # added to a pattern, gives its row in the loop table with the pinched face paired the other way


def _rings() -> list[list[int]]:
    """The corners of the six faces, each counter-clockwise seen from outside the cube."""
    rings = []
    for axis in range(3):
        a, b, c = (AXIS_BIT[(axis + turn) % 3] for turn in range(3))
        rings += [[0, c, b | c, b], [a, a | b, a | b | c, a | c]]
    return rings


RINGS = _rings()


def loops(pattern: int, other_face: int = -1) -> list[int]:
    """The number of the loop of each of the 12 edges, -1 for edges that are not cut.

    The segments on the face `other_face` join the inside corners instead of cutting them off. Segments have the inside on their
    left, so each cut edge is the end of one segment and the start of another.
    """
    edge_of = {frozenset(ends): i for i, ends in enumerate(EDGES)}
    follows = {}
    for face, ring in enumerate(RINGS):
        inside = [pattern >> corner & 1 for corner in ring]
        edges = [edge_of[frozenset((ring[i], ring[(i + 1) % 4]))] for i in range(4)]
        for start in range(4):
            if inside[start] and not inside[(start + 1) % 4]:
                turn = 1 if face == other_face else -1  # -1: back around inside corners; 1: on around outside corners
                end = (start + turn) % 4
                while inside[end] == inside[(end + 1) % 4]:
                    end = (end + turn) % 4
                follows[edges[start]] = edges[end]
    loop, count = [-1] * 12, 0
    for edge in sorted(follows):
        if loop[edge] < 0:
            while loop[edge] < 0:
                loop[edge] = count
                edge = follows[edge]
            count += 1
    return loop


def pinched_face(pattern: int) -> int:
    """The ambiguous face of a pattern whose two segments lie in one loop; -1 if there is none."""
    loop = np.array(loops(pattern))
    pinched = []
    for face, ring in enumerate(RINGS):
        on_face = [loop[i] for i, ends in enumerate(EDGES) if set(ends) <= set(ring) and loop[i] >= 0]
        if len(on_face) == 4 and len(set(on_face)) == 1:
            pinched.append(face)
    assert len(pinched) <= 1
    return pinched[0] if pinched else -1


def loop_table() -> tuple[np.ndarray, np.ndarray]:
    """The loops of all patterns (512 12) and their pinched faces (256).

    Rows from PAIRED_OTHERWISE on have the pinched face paired the other way.
    """
    pinched = np.array([pinched_face(pattern) for pattern in range(256)])
    rows = [loops(pattern) for pattern in range(256)]
    rows += [loops(pattern, face) for pattern, face in enumerate(pinched.tolist())]
    return np.array(rows), pinched
