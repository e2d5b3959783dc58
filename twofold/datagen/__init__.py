"""Preference data from models and people: sample, judge, label."""
