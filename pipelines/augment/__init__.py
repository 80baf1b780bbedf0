"""From a decoded image to finished views: plans (policy, ops) and the executors that carry them out."""
