"""Networks: trunks, the classifier around them, the averaged teacher. Imports torch alone; timm.py, timm."""
