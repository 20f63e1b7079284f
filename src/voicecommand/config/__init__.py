"""Hydra and OmegaConf stop here: overrides are checked, composed, and made plain.

program    a recipe's `main` as a program, multirun included
groups     the folders of conf/ and their files
overrides  checks, with errors that name the key
schema     the types of the settings
objects    what a `_target_` names, called with its keys
arguments  transformers.TrainingArguments
identity   the run directory of a configuration
"""
