"""From answers to figures with intervals. Pure functions of arrays; nothing here touches the disk.

answers           the answers to one split, and their columns
arrays            accuracy, macro F1, confusion matrix, counts
classification    which mistakes a report shows
confidence        calibration, threshold, rejection
slices            by speaker, by length
intervals         Wilson, and bootstraps over groups
splits            the content of metrics.json
transcripts       word error rate
evaluate_metrics  the figures as evaluate.Metric classes, without a hub
"""
