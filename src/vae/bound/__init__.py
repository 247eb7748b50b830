"""Everything between z and the bound."""
