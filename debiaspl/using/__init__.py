"""A trained network, used: what a checkpoint holds is predicted with, evaluated in detail, and exported."""
