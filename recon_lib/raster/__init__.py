"""Differentiable rasterisation: four operations with two implementations of equal signatures.

The operations and their conventions are nvdiffrast's (Laine et al. 2020, "Modular Primitives for High-Performance
Differentiable Rendering"), written from the paper and the published description of the operations:

rasterize    clip-space positions -> per pixel (u, v, z/w, face + 1); all zero where empty
interpolate  vertex attributes -> per-pixel attributes
texture      lookup in a 2-D texture or a cube map: nearest, bilinear, trilinear over mip levels
antialias    analytic edge blending; the only source of gradients across silhouettes

Row 0 of an image is clip y = -1; pixel (px, py) has its centre at x = (2 px + 1) / W - 1, y = (2 py + 1) / H - 1.
u and v are the perspective-correct weights of a face's corners 0 and 1. No face is culled for its winding. At equal depth
the later face wins. Gradients reach positions through (u, v), their pixel derivatives and antialiased edges, never through
depth or face ids. Cube maps have OpenGL's faces (+x -x +y -y +z -z) and are seamless; directions have any finite length but 0.
Axes: N views, V vertices, F faces, H W rows and columns, A attributes, C channels, M textures (N or 1).

`cpu.py` is the reference: numba kernels, gradients summed in a fixed order whatever the number of threads.
"""
