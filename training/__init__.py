"""The training side: labelled films to a model package. The worker never imports it."""
