"""Sources of data. Each `load_*` function returns a DatasetDict with the columns it was asked for.

commands         the built-in corpus, made from its templates
file             CSV, TSV, JSON, Parquet and Rasa's YAML, every cell as it was written
delimited        CSV and TSV: separators and quotes
json_rows        JSON lines, lists of rows, and CLINC150's form
parquet          Parquet, class labels as their names
rasa             the training data of Rasa's NLU
encoding         text files in UTF-8 or UTF-16
folder           recordings in folders named by label, or with a table
hub              a data set of the Hugging Face hub
speech_commands  Google's Speech Commands, from its archives
archives         archives fetched and unpacked without trust
spoken           phrases made into speech

A new source is one file here and one yaml in conf/data that names its function by `_target_`. The keys of the yaml are
the function's parameters, except the first one, `columns`. Its default is for recipes/audit.py, where no task asks for
columns: a source of recordings has ("audio", "label").
"""
