"""Clean image → what the encoder sees; the likelihood scores the clean one."""
