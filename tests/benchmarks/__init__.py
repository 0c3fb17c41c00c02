"""Tests of the benchmarks: that they run, on something tiny, and that pages are made of their figures."""
