"""Compare the start of a lab with three services on docker with that of the same services by Compose."""
