"""How a counting model learns: one pass over the text, no gradients.

columns      arrays longer than memory
grams        tokens → sorted distinct n-grams and their counts
levels       n-grams → a table for each order, linked by prefix and suffix
kneser_ney   counts → probabilities and back-off weights
fit          all of it: tokens → a model
"""

from yuwen.training.counting.columns import Column, Workspace
from yuwen.training.counting.fit import Order, fit

__all__ = ["Column", "Order", "Workspace", "fit"]
