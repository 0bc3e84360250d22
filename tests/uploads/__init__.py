"""Tests of uploads that appear whole."""
