"""Tests of the shape of the house: who may know whom, what ships, what the pages promise."""
