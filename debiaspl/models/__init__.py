"""Networks: trunks, the classifier around them, the averaged teacher. Imports nothing but torch."""
