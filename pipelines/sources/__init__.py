"""The three pipelines: each a ``pipelines.batch.Source`` over the same samples, order and plans."""
