"""The adapter to ReconViaGen: a few photos of one object in, a raw mesh and the cameras of its VGGT network out.

Upstream is the code of GAP-LAB-CUHK-SZ/ReconViaGen, or of the community fork, in a checkout that RECONVIAGEN_ROOT names. Its
weights lie in a folder of their own (`recon_lib.weights`). Neither is part of this library. `outcomes` names everything that
can go wrong there.

Frames. The mesh is in upstream's canonical frame: z up, inside [-0.5, 0.5]^3, with a yaw that depends on no photo. VGGT's
cameras have OpenCV axes, the first camera as their world, an arbitrary scale, and see 518-pixel crops with the principal point
in the centre; `sample.cameras` converts them to `camera.Cameras` of the whole photos. Apart from the mesh's frame, no upstream
convention leaves this package.
"""
