"""The true classes of training images, for reports: imported nowhere outside debiaspl/evaluation (a test says so).

A Split's listing comes without labels. Here they are read off the paths again.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.samples.listing import Listing


def true_labels(listing: Listing) -> NDArray[np.int64]:
    """Returns the number [N] of the class folder that each image of an ImageFolder lies in."""
    number = {name: label for label, name in enumerate(listing.classes)}
    return np.fromiter((number[path.partition("/")[0]] for path in listing.paths), np.int64, len(listing))
