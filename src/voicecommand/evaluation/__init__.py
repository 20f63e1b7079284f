"""From answers to figures with intervals. Pure functions of arrays; nothing here keeps a file.

base              the answers to a split, and the contract of an evaluator
blocks            what a page shows, as plain data
words             figures in words
classification    the evaluator of one label for each example
splits            all splits of an evaluation: the content of metrics.json
answers           the columns of predictions.parquet
arrays            accuracy, macro F1, confusion matrix, counts
advice            what the end of a run advises
threshold         the threshold of rejection: its rule, and on what it rests
scikit_learn      further figures by name
confidence        calibration, and what rejection does to a split
slices            by speaker, by length
intervals         Wilson, and bootstraps over groups
transcripts       the evaluator of what a recogniser writes
normalise         texts as the words that are said
alignment         references and answers word by word, and error rates
confused_words    which words are written wrongly, and in which examples
evaluate_metrics  the figures as evaluate.Metric classes, without a hub
"""
