"""Data comes to one shape here: splits of rows with the same columns, whatever the source.

table        a source's columns to ours, or an error that names the rows
paths        paths of audio files, within their folder
splits       the rule that makes a missing split
text         one spelling for texts that differ in case or punctuation
prepared     recordings decoded once, into a cache that runs share
fingerprint  a hash of what the data says
sources      one file a source
audit        what can be wrong with data
synthesis    speech made from text

A loader is a function `load_x(columns, ...) -> datasets.DatasetDict` in a file of `sources`, named by `_target_` in
conf/data/*.yaml. Each split holds string columns: `id`, `origin` ("file:row"), the columns that the task asked for and,
where the source has them, `speaker`, `template` and `response`. Labels stay strings. The splits are train, validation,
test and, optionally, out_of_scope_validation and out_of_scope_test.
"""
