"""Representational similarity: dissimilarity matrices of patterns, and how alike two of them are.

A representational dissimilarity matrix (RDM) says for each pair of conditions how different their
response patterns are. It forgets which voxel is which, so it compares a model with a brain, or two
brains, without matching their voxels. An RDM is stored as its upper triangle, row by row: the order
of ``numpy.triu_indices(n_conditions, 1)``, of ``scipy.spatial.distance.squareform`` and of
rsatoolbox.

References
----------
Kriegeskorte N, Mur M, Bandettini P (2008), doi:10.3389/neuro.06.004.2008.
"""

from __future__ import annotations

from imgtofmri.rsa.compare import COMPARISONS, compare_rdms
from imgtofmri.rsa.inference import (
    RdmCeiling,
    permute_conditions,
    rdm_ceiling,
)
from imgtofmri.rsa.mds import embed_rdm
from imgtofmri.rsa.rdm import (
    DISSIMILARITIES,
    RDMs,
    calculate_crossnobis,
    calculate_rdm,
    to_square,
    to_vector,
)
from imgtofmri.rsa.two_factor import Draws, TwoFactorBootstrap, two_factor_variance

__all__ = [
    "COMPARISONS",
    "DISSIMILARITIES",
    "Draws",
    "RDMs",
    "RdmCeiling",
    "TwoFactorBootstrap",
    "calculate_crossnobis",
    "calculate_rdm",
    "compare_rdms",
    "embed_rdm",
    "permute_conditions",
    "rdm_ceiling",
    "to_square",
    "to_vector",
    "two_factor_variance",
]
