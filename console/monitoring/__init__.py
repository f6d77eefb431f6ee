"""Rules that watch scopes and the installation, the alerts that they open, and who is told."""
