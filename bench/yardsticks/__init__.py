"""What ours is measured against: the published habits, stock graphs, and limits."""
