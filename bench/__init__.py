"""What `bin/bench` measures. Everything runs as in production, in processes of its own, on embedded services."""
