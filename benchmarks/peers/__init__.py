"""Other testbeds, measured side by side where they are available."""
