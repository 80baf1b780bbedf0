"""What a model is worth: accuracy, nearest neighbours, bias of its pseudo-labels."""
