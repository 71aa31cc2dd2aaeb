"""Other testbeds, measured for comparison where they are installed."""
