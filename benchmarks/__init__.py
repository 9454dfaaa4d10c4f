"""What we measure ourselves against, runnable by anyone: `python -m benchmarks.<name>`."""
