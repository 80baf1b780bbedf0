"""What a run, an evaluation or a bench shows as a page or a sheet of pictures."""
