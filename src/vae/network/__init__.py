"""Encoders x → features and decoders z → likelihood parameters, side by side for each architecture."""
