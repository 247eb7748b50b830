"""The computation of the bound from z."""
