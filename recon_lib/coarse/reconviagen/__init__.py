"""ReconViaGen behind one border: few photos of one object in, a raw mesh and, from its VGGT head, cameras out.

Upstream (GAP-LAB-CUHK-SZ/ReconViaGen, or the community fork) is a checkout named by RECONVIAGEN_ROOT, its weights a folder
(`recon_lib.weights`); nothing of either is part of this library. What goes wrong there has a name here (`outcomes`).

Frames. The mesh is canonical: z up, inside [-0.5, 0.5]^3, its yaw tied to no photo. VGGT's cameras are OpenCV, their world is
the first camera, their scale arbitrary, and they see 518-pixel crops whose principal point is the centre: `sample` returns
them as `camera.Cameras` of the whole photos. Nothing leaves this package in upstream's conventions but the mesh's frame.
"""
