"""Where data comes from. Each `load_*` function gives a DatasetDict with the columns it was asked for.

commands         the built-in corpus, made from its templates
file             CSV, TSV, JSON lines and Parquet, every cell as it was written
folder           recordings in folders named by label, or with a table
hub              a data set of the Hugging Face hub
speech_commands  Google's Speech Commands, from its archives
archives         archives fetched and unpacked without trust
spoken           phrases made into speech
"""
