"""What a model answers: the one axis along which code varies.

base                  the contract of a task
classification        what every task with one label shares
text_classification   a text in, one label out: networks and estimators
audio_classification  the same from a waveform
predicting            one way to answer
saved                 a saved run opened again
teacher               a trained run as the teacher of a small network
"""
