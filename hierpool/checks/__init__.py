"""Judges fits; never makes one."""
