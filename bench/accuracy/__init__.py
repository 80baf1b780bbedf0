"""Seconds until the demo is as accurate as one asks, with our loader and step against the published habits."""
