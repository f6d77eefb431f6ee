"""The console's screens: one module each, function views that check access, call one verb or query, and render."""
