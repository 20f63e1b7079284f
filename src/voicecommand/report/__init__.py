"""What a run shows, from the files that it left.

page      report.html
card      the model card
facts     what both say of the run itself
figures   the pictures
fonts     the fonts that have their characters
terminal  the last lines on the terminal
written   metrics.json, predictions.parquet, confusion_matrix.csv
clips     the clips that the page plays
samples   clips before and after augmentation
"""
