"""Features → q(z|x), as a torch distribution over z."""
