"""The checker of annotations that jaxtyping's import hook applies to the package during tests."""

from beartype import BeartypeConf, beartype

# An int is welcome where a float is annotated, as PEP 484 has it and as a config may well say `sigma: 1`.
typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
