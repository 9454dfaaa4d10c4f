"""Pictures of predictions, inputs and scores."""
