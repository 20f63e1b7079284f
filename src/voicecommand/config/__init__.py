"""Configurations: overrides are checked and composed; only this package and the recipes use Hydra and OmegaConf.

program     a recipe's `main` as a program, multirun included
groups      the folders of conf/ and their files
loading     Hydra's reading of conf/, closed to code
overrides   checks of overrides, with errors that name the key
references  references ${...} to other values, which may not grow
schema      the types of the settings
objects     objects built from a `_target_` and its keys
arguments   transformers.TrainingArguments
identity    the run directory of a configuration
measured    the data that a saved run is measured on
"""
