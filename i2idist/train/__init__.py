"""The training loop, collectives, checkpoints and precision. Knows no method, no Ray, no MLflow."""
