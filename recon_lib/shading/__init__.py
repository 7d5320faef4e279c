"""Metallic-roughness shading under environment light, by the split-sum approximation (Karis 2013; Munkberg et al. 2022).

Light is a cube map of linear radiance, 6 S S 3: faces +x, -x, +y, -y, +z, -z of the world, oriented as OpenGL's. Material
channels are glTF's: base colour, occlusion (1 is open), roughness, metallic. alpha = roughness squared is the width of the
GGX lobe. Everything here is linear in the light, so the light can be trained. Against Monte Carlo under
a sky with a soft sun, n.v >= 0.4, the mean error is below 3 % for dielectrics; for metals below 4 % up to roughness 0.4, 8 %
at 0.7 and 13 % at 1, where the lobe's true shape depends most on the view. Axes: S texels along a face's side, P points.
"""
