"""Tests of codemmlu/retrieval, and of the index and the jobs that stand on it."""
