"""Data sets in one form: splits of rows with the same columns, from any source.

table        the columns of a source under our names, or an error that names the rows
paths        checks of the paths of audio files
splits       the rule that makes missing splits
placing      which split or fold a key belongs to
stream       commands to answer, as they come
text         texts without differences in case and punctuation
prepared     recordings decoded once, into a cache that runs share
fingerprint  a hash of the data's content
nodes        a YAML file as nodes that know their lines
grammar      the sentences that a device knows
sources      a file for each source
audit        checks of a data set
synthesis    speech made from text

A loader is a function `load_x(columns, ...) -> datasets.DatasetDict` in a file of `sources`, named by `_target_` in
conf/data/*.yaml. Each split has string columns: `id`, `origin` ("file:row"), the columns that the task asks for and, if
the source has them, `speaker`, `template` and `response`. Labels stay strings. The splits are train, validation, test
and, optionally, out_of_scope_validation and out_of_scope_test.
"""
