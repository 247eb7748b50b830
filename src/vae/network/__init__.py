"""Networks: encoders x → features and decoders z → likelihood parameters, in pairs for each architecture."""
