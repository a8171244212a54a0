"""`lastream`: the stream agent (policies/lastream) trained on simulated dataflows. Entry: family.py."""
