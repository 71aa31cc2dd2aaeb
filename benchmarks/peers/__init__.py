"""Other testbeds, run side by side where they can run; a peer that cannot says why and gives no number."""
