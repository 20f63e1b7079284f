"""What a model answers: the one axis along which code varies.

text_classification   a text in, one label out: networks and estimators
audio_classification  the same from a waveform
classification        what both share: class weights, probabilities
teacher               a trained run as the teacher of a small network
predicting            the answers to a split, beside its rows
saved                 a saved run opened again
"""
