"""Isosurfaces: triangle meshes from a signed distance on a grid, differentiable in the distance and in the grid's points.

The distance is negative inside; exactly 0 counts as outside. It need not be a true distance: only its zero set matters and,
next to it, the ratios of its values. Faces wind counter-clockwise seen from outside, so normals point outwards. The mesh is
always manifold. It is closed if the distance is positive on the grid's boundary, and open where the surface leaves the grid.
Each call numbers the vertices anew. Lengths are in the grid's units; the grid fills [-1, 1]^3 until the caller moves its
points.

dmtet       marching tetrahedra (Shen et al. 2021, "Deep Marching Tetrahedra"): a vertex on each cut edge
flexicubes  weighted dual marching cubes (Shen et al. 2023, "Flexible Isosurface Extraction for Gradient-Based Mesh
            Optimization"): a vertex inside each cut cube, better shaped triangles, sharp edges possible

Grid points, cubes and the edges of one axis are listed in C order of (x, y, z): z runs fastest. Axes: G grid points, T tets,
C cubes, E undirected grid edges, V vertices, F faces, D dual vertices.
"""
