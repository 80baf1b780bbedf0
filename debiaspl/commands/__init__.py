"""Commands around a run: its data, its splits and targets, other people's weights. tools/*.py start them as scripts."""
