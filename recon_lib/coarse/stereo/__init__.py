"""Multi-view stereo: a depth for every pixel that other photos agree with, and the closed surface through these depths.

`views` cuts the object out of every photo and says where along each pixel's ray the visual hull lies; `patchmatch` searches
the depth there at which neighbouring photos look alike (Bleyer et al. 2011; Galliani et al. 2015; Schönberger et al. 2016);
`consistency` keeps what several depth maps agree on; `fusion` makes one closed surface of them, inside the hull, and leaves
the hull where stereo has nothing to say.

Cameras in here are OpenCV's: +x right, +y down, looks along +z, `T_cv_world`; a pixel's centre lies at +0.5. Depth is z along
the camera's axis, in world units; the unknown is its inverse w, since a plane is affine in w over the image, so a slanted patch
is (w, dw/dx, dw/dy). Axes: B views, N neighbours of a view, H W pixels of a crop.
"""
