"""Networks: trunks, the classifier around them, the averaged teacher. Only timm.py needs more than torch."""
